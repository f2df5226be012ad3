// The two libraries of the page, as one file: esbuild bundles what package-lock.json pins.
export { default as PostalMime, addressParser } from 'postal-mime';
export { default as DOMPurify } from 'dompurify';
