package vault

import (
	"path"
	"strings"
	"unicode/utf8"
)

// maxName is the longest name of a file in bytes: NAME_MAX on Linux, and less
// than what APFS takes.
const maxName = 255

// Slug makes a title fit for a file name on every peer: lower-case ASCII letters,
// digits and single hyphens, none at its ends, at most max bytes (at least 4). So two
// slugs never differ in case or in Unicode normalisation alone. Accented letters of
// Latin-1 and Latin Extended-A lose their accent, composed or not; apostrophes go;
// everything else separates words, other scripts included. A title without any
// letter or digit is "note", and a name that Windows reserves for a device gets
// "note-" before it.
func Slug(title string, max int) string {
	var b strings.Builder
	gap := false
	for _, r := range title {
		if r >= 0x300 && r <= 0x36f || r == '\'' || r == '’' {
			continue // combining accents of decomposed text, and "don't"
		}
		ascii := plain(r)
		if ascii == "" {
			gap = true
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('-')
		}
		gap = false
		b.WriteString(ascii)
		if b.Len() >= max {
			break
		}
	}
	s := cutSlug(b.String(), max)
	if s == "" {
		return "note"
	}
	if isDevice(s) {
		return cutSlug("note-"+s, max)
	}
	return s
}

func cutSlug(s string, max int) string { return strings.TrimRight(s[:min(len(s), max)], "-") }

// plain is r in lower-case ASCII letters and digits, or "".
func plain(r rune) string {
	switch {
	case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
		return string(r)
	case 'A' <= r && r <= 'Z':
		return string(r + 'a' - 'A')
	}
	for _, row := range accents {
		if strings.ContainsRune(row.from, r) {
			return row.to
		}
	}
	return ""
}

var accents = []struct{ to, from string }{
	{"a", "àáâãäåāăąÀÁÂÃÄÅĀĂĄª"}, {"ae", "æÆ"}, {"c", "çćĉċčÇĆĈĊČ"},
	{"d", "ďđðĎĐÐ"}, {"e", "èéêëēĕėęěÈÉÊËĒĔĖĘĚ"}, {"g", "ĝğġģĜĞĠĢ"},
	{"h", "ĥħĤĦ"}, {"i", "ìíîïĩīĭįıÌÍÎÏĨĪĬĮİ"}, {"ij", "ĳĲ"}, {"j", "ĵĴ"},
	{"k", "ķĸĶ"}, {"l", "ĺļľŀłĹĻĽĿŁ"}, {"n", "ñńņňŉŋÑŃŅŇŊ"},
	{"o", "òóôõöøōŏőÒÓÔÕÖØŌŎŐº"}, {"oe", "œŒ"}, {"r", "ŕŗřŔŖŘ"},
	{"s", "śŝşšſŚŜŞŠ"}, {"ss", "ß"}, {"t", "ţťŧŢŤŦ"}, {"th", "þÞ"},
	{"u", "ùúûüũūŭůűųÙÚÛÜŨŪŬŮŰŲ"}, {"w", "ŵŴ"}, {"y", "ýÿŷÝŶŸ"}, {"z", "źżžŹŻŽ"},
}

// isDevice tells whether Windows reserves the name, with any extension
// (learn.microsoft.com, "Naming Files, Paths, and Namespaces").
func isDevice(s string) bool {
	switch s {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(s) == 4 && (s[:3] == "com" || s[:3] == "lpt") && '0' <= s[3] && s[3] <= '9'
}

// WithSuffix puts suffix between the stem and the extension of the file that
// name names, "a/x.md" and "r7k2" giving "a/x-r7k2.md". The stem loses whole
// characters at its end until the file's name has at most 255 bytes. suffix is
// short, ASCII, and without a slash.
func WithSuffix(name, suffix string) string {
	dir, base := path.Split(name)
	ext := path.Ext(base)
	if ext == base || len(ext) > maxName/4 {
		ext = "" // a dot file, or a dot early in a long sentence
	}
	stem := strings.TrimSuffix(base, ext)
	for len(stem) > 0 && len(stem)+1+len(suffix)+len(ext) > maxName {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	return dir + stem + "-" + suffix + ext
}
