# sealpost.conf(5) out of the commented configuration file: sections, keys, defaults, what they do.
BEGIN {
    print ".TH SEALPOST.CONF 5 \"\" \"Sealpost\" \"File formats\""
    print ".SH NAME\nsealpost.conf \\- configuration of a Sealpost appliance\n.SH DESCRIPTION"
}
function flush_text() { if (text != "") print text; text = "" }
/^\[/ { flush_text(); gsub(/[][]/, ""); print ".SH [" $0 "]"; next }
/^#?[a-z_]+ = / {
    preset = ($0 ~ /^#/); sub(/^#/, ""); gsub(/-/, "\\-")
    key = $1; value = $0; sub(/^[^=]*= /, "", value)
    print ".TP\n\\fB" key "\\fR = \\fI" value "\\fR" (preset ? "" : " (needed)")
    flush_text(); next
}
/^# ?/ { sub(/^# ?/, ""); gsub(/\\/, "\\\\"); gsub(/-/, "\\-"); text = text (text == "" ? "" : "\n") $0; next }
END { print ".SH SEE ALSO\n.BR sealpostd (8)" }
