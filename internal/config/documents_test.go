package config

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write runner.example.yaml and the table in docs/configuration.md anew")

const (
	examplePath  = "../../runner.example.yaml"
	documentPath = "../../docs/configuration.md"
	tableBegin   = "<!-- keys: begin; written by go test ./internal/config -update -->\n"
	tableEnd     = "<!-- keys: end -->\n"
)

func TestExampleIsUpToDate(t *testing.T) {
	want := example()
	if *update {
		if err := os.WriteFile(examplePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("runner.example.yaml differs from the definition; run go test ./internal/config -update")
	}
}

func TestDocumentIsUpToDate(t *testing.T) {
	data, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), tableBegin)
	got, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatal("docs/configuration.md lacks the marks around its table")
	}
	want := table()
	if *update {
		if err := os.WriteFile(documentPath, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		got = want
	}
	if got != want {
		t.Error("docs/configuration.md differs from the definition; run go test ./internal/config -update")
	}
}

func TestExampleLoadsAsItIs(t *testing.T) {
	c, warnings, err := Load(examplePath, nil)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	if c.Vault != "/srv/vault" || len(c.Providers) != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestExampleLoadsWithEveryKeySet(t *testing.T) {
	dir := t.TempDir()
	l := &loader{file: "runner.yaml", dir: dir, environ: variables([]string{
		"LOCAL_API_KEY=k", "DISCORD_WEBHOOK=https://h/w", "LANGFUSE_SECRET_KEY=s"})}
	if _, warnings, err := l.load([]byte(uncommented(example()))); err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	eachKey(func(at place, k key) {
		if _, ok := l.set[strings.ReplaceAll(at.pattern, "[]", "[0]")]; !ok {
			t.Errorf("the example lacks %s", at.pattern)
		}
	})
}

func TestEachKeyIsDescribed(t *testing.T) {
	eachKey(func(at place, k key) {
		if !strings.HasSuffix(k.about, ".") || strings.Contains(k.about, "|") {
			t.Errorf("%s: about %q is no sentence for a table", at.path, k.about)
		}
		single := k.value.set != nil
		if single && k.needed == "" && k.standard == "" && k.otherwise == "" {
			t.Errorf("%s has neither default nor need", at.path)
		}
		if k.standard != "" && !k.value.set(k.standard) {
			t.Errorf("%s: its own default is refused", at.path)
		}
	})
}

// eachKey visits the whole definition, a list by one item.
func eachKey(visit func(at place, k key)) {
	var walk func(at place, keys []key)
	walk = func(at place, keys []key) {
		for _, k := range keys {
			to := at.key(k.name)
			visit(to, k)
			walk(to, k.keys)
			if k.items != nil {
				walk(place{to.path + "[]", to.pattern + "[]"}, k.items(1)[0])
			}
		}
	}
	walk(place{}, definition(&Config{}, "/"))
}

var commented = regexp.MustCompile(`(?m)^( *)#(\S)`)

// uncommented sets every key of the example: a key stands right behind its #,
// prose behind a space.
func uncommented(example string) string { return commented.ReplaceAllString(example, "$1$2") }

func example() string {
	var b strings.Builder
	comment(&b, "", "The configuration of runner: copy it to runner.yaml, in the folder where you start it, or to /etc/runner/runner.yaml.")
	comment(&b, "", "A line that begins with # right before a key shows a key that is not set: remove the # to set it. A key without a value counts as not set. A variable of the environment wins over this file; lists are set here alone. Relative paths count from this file's folder.")
	exampleKeys(&b, "", place{}, definition(&Config{}, "/"))
	return b.String()
}

func exampleKeys(b *strings.Builder, indent string, at place, keys []key) {
	inItem := strings.HasSuffix(at.pattern, "[]")
	for i, k := range keys {
		to := at.key(k.name)
		lead, inner := indent, indent+"  "
		if inItem {
			lead, inner = indent+"  ", indent+"    "
		}
		if at.path == "" {
			b.WriteString("\n")
		}
		text := k.about + facts(to, k)
		comment(b, lead, text)
		mark := "#"
		if k.needed != "" && !strings.Contains(at.pattern, "models") {
			mark = ""
		}
		if inItem && i == 0 {
			lead = indent + mark + "- "
		} else {
			lead += mark
		}
		switch {
		case k.keys != nil:
			fmt.Fprintf(b, "%s%s:\n", lead, k.name)
			exampleKeys(b, inner, to, k.keys)
		case k.items != nil:
			fmt.Fprintf(b, "%s%s:\n", lead, k.name)
			exampleKeys(b, inner, place{to.path + "[]", to.pattern + "[]"}, k.items(1)[0])
		case k.secret != nil:
			fmt.Fprintf(b, "%s%s_env: %s\n", lead, k.name, k.example)
		case k.texts != nil:
			fmt.Fprintf(b, "%s%s: [%s]\n", lead, k.name, k.example)
		default:
			shown := k.example
			if k.standard != "" {
				shown = k.standard
			}
			fmt.Fprintf(b, "%s%s: %s\n", lead, k.name, shown)
		}
	}
}

// facts says, after what a key means, how it is set.
func facts(at place, k key) string {
	var b strings.Builder
	if k.secret != nil {
		fmt.Fprintf(&b, " Give the name of a variable by %[1]s_env or the path of a file by %[1]s_file.", k.name)
	}
	if k.needed != "" {
		fmt.Fprintf(&b, " Needed%s.", strings.TrimSuffix(" "+k.needed, " "+always))
	}
	if d := k.standard + k.otherwise; d != "" {
		fmt.Fprintf(&b, " Default: %s.", d)
	}
	if v := variableOf(at, k); v != "" {
		fmt.Fprintf(&b, " Environment: %s.", v)
	}
	return b.String()
}

func variableOf(at place, k key) string {
	if strings.Contains(at.pattern, "[]") || k.items != nil || k.texts != nil || k.keys != nil {
		return ""
	}
	return variable(at.path)
}

// comment writes text as lines of at most 80 columns where words allow.
func comment(b *strings.Builder, indent, text string) {
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 80 {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

func table() string {
	var b strings.Builder
	b.WriteString("| key | meaning | default | environment |\n| --- | --- | --- | --- |\n")
	eachKey(func(at place, k key) {
		name := "`" + at.pattern + "`"
		if k.secret != nil {
			name = fmt.Sprintf("`%[1]s_env` or `%[1]s_file`", at.pattern)
		}
		standard := k.otherwise
		switch {
		case k.needed != "":
			standard = strings.TrimSuffix("needed "+k.needed, " "+always)
		case k.standard != "":
			standard = "`" + k.standard + "`"
		}
		environment := variableOf(at, k)
		if environment != "" {
			environment = "`" + environment + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, k.about, standard, environment)
	})
	return b.String()
}
