package checks

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

var queryChecks = []check{
	{"Grafana's datasources are there under fixed names", (*tree).datasources},
	{"dashboards are complete and ask for metrics that exist", (*tree).dashboards},
	{"alerts ask for metrics that exist and say what is wrong", (*tree).alerts},
	{"alerts reach Discord", (*tree).discord},
}

// metrics are the names that testdata/metrics has, with the label sets of their series
// where it has the values too.
type metrics map[string][]map[string]string

var sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)

// known are the metrics that exist. Those of a histogram's parts come with it.
var known = sync.OnceValues(func() (metrics, error) {
	all := metrics{"up": nil, "ALERTS": nil}
	files, err := filepath.Glob("testdata/metrics/*.prom")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no metrics: %w", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
				all[fields[2]] = nil
				if fields[3] == "histogram" || fields[3] == "summary" {
					all[fields[2]+"_bucket"], all[fields[2]+"_sum"], all[fields[2]+"_count"] = nil, nil, nil
				}
			}
			if found := sampleLine.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
				all[found[1]] = append(all[found[1]], labelsOf(found[2]))
			}
		}
	}
	return all, nil
})

var label = regexp.MustCompile(`([a-zA-Z_]+)="([^"]*)"`)

func labelsOf(text string) map[string]string {
	set := map[string]string{}
	for _, found := range label.FindAllStringSubmatch(text, -1) {
		set[found[1]] = found[2]
	}
	return set
}

// added are the labels that Prometheus gives, by its configuration.
var added = []string{"job", "instance", "host", "service", "__name__"}

// query says what does not hold in an expression.
func (m metrics) query(expression string) (problems []string) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", expression, err)}
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		series, ok := m[selector.Name]
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: there is no metric %s", expression, selector.Name))
			return nil
		}
		// Where values were seen, one series must fit what is asked for.
		fits := func(set map[string]string) bool {
			for _, matcher := range selector.LabelMatchers {
				if !slices.Contains(added, matcher.Name) && !matcher.Matches(set[matcher.Name]) {
					return false
				}
			}
			return true
		}
		negative := slices.ContainsFunc(selector.LabelMatchers, func(m *labels.Matcher) bool {
			return m.Type == labels.MatchNotEqual || m.Type == labels.MatchNotRegexp
		})
		if len(series) > 0 && !negative && !slices.ContainsFunc(series, fits) {
			problems = append(problems, fmt.Sprintf("%s: no %s was ever seen with these labels", expression, selector.Name))
		}
		return nil
	})
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		aggregate, ok := node.(*parser.AggregateExpr)
		if !ok || aggregate.Without {
			return nil
		}
		parser.Inspect(aggregate.Expr, func(node parser.Node, _ []parser.Node) error {
			selector, ok := node.(*parser.VectorSelector)
			if !ok || len(m[selector.Name]) == 0 {
				return nil
			}
			for _, name := range aggregate.Grouping {
				if _, has := m[selector.Name][0][name]; !has && !slices.Contains(added, name) {
					problems = append(problems, fmt.Sprintf("%s: %s has no label %s", expression, selector.Name, name))
				}
			}
			return nil
		})
		return nil
	})
	return problems
}

// datasource is one of Grafana's.
type datasource struct {
	Name, UID, Type, Access, URL string
	IsDefault                    bool `yaml:"isDefault"`
	Editable                     *bool
	JSONData                     map[string]any `yaml:"jsonData"`
}

func (t *tree) grafana() ([]datasource, error) {
	var config struct {
		Version int `yaml:"apiVersion"`
		Prune   bool
		Sources []datasource `yaml:"datasources"`
	}
	err := t.yaml("dev-learning/grafana/provisioning/datasources/prometheus.yml", &config)
	return config.Sources, err
}

func (t *tree) datasources() (problems []string) {
	sources, err := t.grafana()
	if err != nil {
		return []string{err.Error()}
	}
	defaults := 0
	for _, s := range sources {
		name, digits, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
		var number uint32
		fmt.Sscan(digits, &number)
		if why := t.answers("dev-learning", "grafana", name, number); why != "" {
			problems = append(problems, s.Name+": "+why)
		}
		say := func(holds bool, problem string) {
			if !holds {
				problems = append(problems, s.Name+": "+problem)
			}
		}
		say(s.UID != "", "has no fixed uid")
		say(s.Access == "proxy", "is asked by the browser, not by Grafana")
		say(s.Editable != nil && !*s.Editable, "can be edited in Grafana")
		if s.IsDefault {
			defaults++
		}
	}
	if defaults > 1 {
		problems = append(problems, fmt.Sprintf("%d datasources are the default", defaults))
	}
	if !slices.ContainsFunc(sources, func(s datasource) bool { return s.Type == "prometheus" && s.UID == "prometheus" && s.IsDefault }) {
		problems = append(problems, "Prometheus is not the default datasource under the uid prometheus")
	}
	return problems
}

type source struct{ Type, UID string }

type panel struct {
	ID         int
	Type       string
	Title      string
	GridPos    struct{ X, Y, W, H int }
	Datasource source
	Targets    []struct {
		RefID      string
		Expr       string
		Datasource source
	}
}

type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Panels        []panel
}

func (t *tree) dashboards() (problems []string) {
	all, err := known()
	sources, sourceErr := t.grafana()
	files, globErr := filepath.Glob(filepath.Join(t.dir, "dev-learning/grafana/dashboards/*.json"))
	if err != nil || sourceErr != nil || globErr != nil || len(files) != 2 {
		return []string{fmt.Sprintf("%d dashboards; %v %v %v", len(files), err, sourceErr, globErr)}
	}
	uids := map[string]bool{}
	for _, file := range files {
		var d dashboard
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &d)
		}
		name := filepath.Base(file)
		if err != nil {
			problems = append(problems, name+": "+err.Error())
			continue
		}
		say := func(format string, values ...any) {
			problems = append(problems, name+": "+fmt.Sprintf(format, values...))
		}
		// Only an export for others has these, and nobody fills them in.
		if strings.Contains(string(text), "__inputs") || strings.Contains(string(text), "${DS_") {
			say("is an export for sharing")
		}
		if d.UID == "" || len(d.UID) > 40 {
			say("has no uid that Grafana takes")
		}
		if uids[d.UID] {
			say("has the uid of another dashboard")
		}
		if d.SchemaVersion == 0 {
			say("has no schema version")
		}
		if d.Title == "" {
			say("has no title")
		}
		uids[d.UID] = true
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if ids[p.ID] {
				say("%s: has the id of another panel", p.Title)
			}
			if p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
				say("%s: has no place on the page", p.Title)
			}
			ids[p.ID] = true
			if p.Type != "row" && len(p.Targets) == 0 {
				say("%s: asks nothing", p.Title)
			}
			for _, target := range p.Targets {
				for _, asked := range []source{p.Datasource, target.Datasource} {
					if !slices.ContainsFunc(sources, func(s datasource) bool { return s.UID == asked.UID && s.Type == asked.Type }) {
						say("%s: there is no datasource %s", p.Title, asked.UID)
					}
				}
				for _, problem := range all.query(target.Expr) {
					say("%s: %s", p.Title, problem)
				}
			}
		}
	}
	return problems
}

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Annotations map[string]string
		}
	}
}

func (t *tree) alerts() (problems []string) {
	all, err := known()
	if err != nil {
		return []string{err.Error()}
	}
	config, problems := t.prometheus()
	var files []string
	for _, pattern := range config.Rules {
		found, _ := filepath.Glob(filepath.Join(t.dir, "dev-learning/prometheus", pattern))
		files = append(files, found...)
	}
	seen := map[string]bool{}
	for _, file := range files {
		var rules ruleFile
		if err := t.yaml("dev-learning/prometheus/rules/"+filepath.Base(file), &rules); err != nil {
			return append(problems, err.Error())
		}
		for _, group := range rules.Groups {
			for _, rule := range group.Rules {
				if rule.Annotations["summary"] == "" {
					problems = append(problems, rule.Alert+": says not what is wrong")
				}
				if seen[rule.Alert] {
					problems = append(problems, rule.Alert+": is there twice")
				}
				seen[rule.Alert] = true
				for _, problem := range all.query(rule.Expr) {
					problems = append(problems, rule.Alert+": "+problem)
				}
			}
		}
	}
	if len(seen) < 15 {
		problems = append(problems, fmt.Sprintf("Prometheus reads only %d alerts", len(seen)))
	}
	return problems
}

// alertmanagerConfig is all that alertmanager.yml may have here.
type alertmanagerConfig struct {
	Route struct {
		Receiver       string
		GroupBy        []string `yaml:"group_by"`
		GroupWait      string   `yaml:"group_wait"`
		GroupInterval  string   `yaml:"group_interval"`
		RepeatInterval string   `yaml:"repeat_interval"`
	}
	Inhibit []struct {
		Source []string `yaml:"source_matchers"`
		Target []string `yaml:"target_matchers"`
		Equal  []string
	} `yaml:"inhibit_rules"`
	Receivers []struct {
		Name    string
		Discord []struct {
			File    string `yaml:"webhook_url_file"`
			Title   string
			Message string
		} `yaml:"discord_configs"`
	}
}

// alertmanager returns what alertmanager.yml says; discord tells if it cannot be read.
func (t *tree) alertmanager() (config alertmanagerConfig) {
	_ = t.yaml("dev-learning/alertmanager/alertmanager.yml", &config)
	return config
}

func (t *tree) discord() (problems []string) {
	var config alertmanagerConfig
	if err := t.yaml("dev-learning/alertmanager/alertmanager.yml", &config); err != nil {
		return []string{err.Error()}
	}
	reached := false
	for _, receiver := range config.Receivers {
		for _, discord := range receiver.Discord {
			reached = reached || receiver.Name == config.Route.Receiver && discord.File == "/run/secrets/discord_alert_webhook"
			for _, text := range []string{discord.Title, discord.Message} {
				functions := template.FuncMap{"toUpper": strings.ToUpper}
				if _, err := template.New("").Funcs(functions).Parse(text); err != nil {
					problems = append(problems, "alertmanager.yml: "+err.Error())
				}
			}
		}
	}
	if !reached {
		problems = append(problems, "alerts go to "+config.Route.Receiver+", which is not Discord")
	}
	return problems
}
