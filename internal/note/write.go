package note

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// KV is a frontmatter key to write. Value is a string, int, int64, float64,
// bool, []string or time.Time; any other type is written as its text.
type KV struct {
	Key   string
	Value any
}

// Frontmatter renders the frontmatter of a note that we write ourselves, both
// "---" lines included, in the order of fields. The keys have to differ.
func Frontmatter(fields []KV) string {
	var b strings.Builder
	b.WriteString(fence + "\n")
	for _, kv := range fields {
		b.WriteString(kv.line() + "\n")
	}
	b.WriteString(fence + "\n")
	return b.String()
}

// line renders "key: value", always on one line.
func (kv KV) line() string {
	key := scalar(kv.Key)
	switch v := kv.Value.(type) {
	case string:
		return key + ": " + scalar(v)
	case int:
		return key + ": " + strconv.Itoa(v)
	case int64:
		return key + ": " + strconv.FormatInt(v, 10)
	case float64:
		return key + ": " + float(v)
	case bool:
		return key + ": " + strconv.FormatBool(v)
	case time.Time:
		return key + ": " + v.UTC().Format(time.RFC3339)
	case []string:
		quoted := make([]string, len(v))
		for i, item := range v {
			quoted[i] = quote(item)
		}
		return key + ": [" + strings.Join(quoted, ", ") + "]"
	default:
		return key + ": " + scalar(fmt.Sprint(v))
	}
}

func float(x float64) string {
	switch size := math.Abs(x); {
	case math.IsNaN(x):
		return ".nan"
	case math.IsInf(x, 0):
		return strings.Replace(strconv.FormatFloat(x, 'f', -1, 64), "Inf", ".inf", 1)
	case size != 0 && (size < 1e-6 || size >= 1e15):
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

// scalar renders text so that YAML 1.1 and 1.2 both read it back as that text.
// It is written plain only where it is clear at sight that no reader can take
// it for another type: words that begin with a letter.
func scalar(text string) string {
	switch strings.ToLower(text) {
	case "", "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return quote(text)
	}
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		inner := r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' || r == '/' || r == ' '
		if !letter && (i == 0 || !inner) {
			return quote(text)
		}
	}
	if strings.HasSuffix(text, " ") {
		return quote(text)
	}
	return text
}

// quote renders text as a double-quoted YAML scalar on one line (YAML 1.2,
// section 5.7). Broken UTF-8 becomes U+FFFD.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == '\ufffe' || r == '\uffff':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
