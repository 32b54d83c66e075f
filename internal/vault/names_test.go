package vault_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"davidcockson.com/runner/internal/vault"
)

func TestSlug(t *testing.T) {
	rows := []struct {
		what, title string
		max         int
		want        string
	}{
		{"words are joined by hyphens", "The quick  brown_fox", 99, "the-quick-brown-fox"},
		{"what separates is trimmed at the ends", "  --Hello!-- ", 99, "hello"},
		{"accents go", "Übergrößen für Łódź, à la carte", 99, "ubergrossen-fur-lodz-a-la-carte"},
		{"decomposed accents go too", "Cafe\u0301 u\u0308ber", 99, "cafe-uber"},
		{"apostrophes go", "Don't, don’t", 99, "dont-dont"},
		{"other scripts separate", "GPT 日本語 vs Привет 4", 99, "gpt-vs-4"},
		{"an emoji alone is a note", "🦊", 99, "note"},
		{"nothing is a note", "", 99, "note"},
		{"a path is words", "../../etc/passwd", 99, "etc-passwd"},
		{"a cut leaves no hyphen at the end", "abc def", 4, "abc"},
		{"a cut is at the byte", "abcdefgh", 6, "abcdef"},
		{"a ligature is cut too", "aaaß", 4, "aaas"},
		{"a Windows device is no name", "CON", 99, "note-con"},
		{"nor one that a cut makes", "lpt1234", 4, "note"},
		{"nor one with an accent", "cöm1", 99, "note-com1"},
		{"a longer name is none", "console", 99, "console"},
		{"broken UTF-8 separates", "a\xffb", 99, "a-b"},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			if got := vault.Slug(row.title, row.max); got != row.want {
				t.Errorf("Slug(%q, %d) = %q, want %q", row.title, row.max, got, row.want)
			}
		})
	}
}

func TestWithSuffix(t *testing.T) {
	long := strings.Repeat("n", 252) + ".md"
	rows := []struct{ what, name, suffix, want string }{
		{"before the extension", "x.md", "r7k2", "x-r7k2.md"},
		{"the folder stays", "a.b/x.md", "r7k2", "a.b/x-r7k2.md"},
		{"without an extension at the end", "x", "r7k2", "x-r7k2"},
		{"a dot file is all stem", ".x", "r7k2", ".x-r7k2"},
		{"the last dot counts", "x.y.md", "r7k2", "x.y-r7k2.md"},
		{"a long stem is cut", long, "r7k2", strings.Repeat("n", 247) + "-r7k2.md"},
		{"a character is cut whole", strings.Repeat("é", 126) + ".md", "r7k2", strings.Repeat("é", 123) + "-r7k2.md"},
		{"a long tail is no extension", "x." + strings.Repeat("y", 253), "r7k2", "x." + strings.Repeat("y", 248) + "-r7k2"},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			got := vault.WithSuffix(row.name, row.suffix)
			if got != row.want || len(got[strings.LastIndexByte(got, '/')+1:]) > 255 {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func FuzzSlug(f *testing.F) {
	for _, seed := range []string{"", "The quick fox", "CON", "ß", "e\u0301", "a\xff", "../x", strings.Repeat("long ", 99)} {
		f.Add(seed, 120)
	}
	shape := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	device := regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])$`)
	f.Fuzz(func(t *testing.T, title string, max int) {
		max = 4 + int(uint(max)%300)
		s := vault.Slug(title, max)
		if !shape.MatchString(s) || device.MatchString(s) || len(s) > max {
			t.Errorf("Slug(%q, %d) = %q", title, max, s)
		}
		if again := vault.Slug(s, max); again != s {
			t.Errorf("the slug of %q is %q", s, again)
		}
	})
}

func FuzzWithSuffix(f *testing.F) {
	f.Add("a/x.md")
	f.Add(strings.Repeat("é", 200) + ".md")
	f.Fuzz(func(t *testing.T, name string) {
		got := vault.WithSuffix(name, "r7k2")
		dir, base := name[:strings.LastIndexByte(name, '/')+1], got[strings.LastIndexByte(got, '/')+1:]
		if len(base) > 255 || !strings.HasPrefix(got, dir) || !strings.Contains(base, "-r7k2") {
			t.Errorf("WithSuffix(%q) = %q", name, got)
		}
		if utf8.ValidString(name) && !utf8.ValidString(got) {
			t.Errorf("WithSuffix(%q) = %q breaks a character", name, got)
		}
	})
}
