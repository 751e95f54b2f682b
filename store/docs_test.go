package store

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func sourcesDocument(t *testing.T) string {
	t.Helper()
	return string(must[[]byte](t)(os.ReadFile("../docs/sources.md")))
}

// section gives the lines between two that begin with these words.
func section(t *testing.T, document, from, to string) []string {
	t.Helper()
	_, after, found := strings.Cut(document, "\n"+from)
	_, after, begins := strings.Cut(after, "\n")
	text, _, ends := strings.Cut(after, "\n"+to)
	if !found || !begins || !ends {
		t.Fatalf("docs/sources.md has nothing between %q and %q", from, to)
	}
	return strings.Split(text, "\n")
}

// strategyRows are the kinds of apps whose strategies differ, with what their blobs say.
var strategyRows = []struct {
	name   string
	source Source
	fields []string
}{
	{"dockerfile", SourceDockerfile, nil},
	{"dockerfile with a writable volume", SourceDockerfile, []string{writableVolume}},
	{"static", SourceStatic, nil},
	{"static, mode deno", SourceStatic, []string{deno}},
	{"static, mode deno, with storage", SourceStatic, []string{deno, storage}},
	{"image", SourceImage, nil},
	{"image with a writable volume", SourceImage, []string{writableVolume}},
	{"compose", SourceCompose, nil},
}

const writableVolume = `"volumes":[{"name":"data","path":"/data"}]`

// effective says in a word what becomes of a deploy_strategy.
func effective(source Source, strategy string, fields []string) string {
	blob := blobOf(source, append(slices.Clone(fields), fmt.Sprintf(`"deploy_strategy":%q`, strategy))...)
	config, err := DecodeConfig(source, []byte(blob))
	if err != nil {
		return "refused"
	}
	plan := PlanOf(config)
	if plan.Forced {
		return string(plan.Strategy) + ", forced"
	}
	return string(plan.Strategy)
}

func TestDocumentedStrategiesAreThoseOfTheCode(t *testing.T) {
	want := []string{"| source | not said | `recreate` | `blue-green` | anything else |", "|---|---|---|---|---|"}
	for _, row := range strategyRows {
		cells := []string{row.name}
		for _, strategy := range []string{"", "recreate", "blue-green", "rolling"} {
			cells = append(cells, effective(row.source, strategy, row.fields))
		}
		want = append(want, "| "+strings.Join(cells, " | ")+" |")
	}
	got := section(t, sourcesDocument(t), "<!-- strategies:", "<!-- end of strategies")
	if !slices.Equal(got, want) {
		t.Errorf("docs/sources.md has\n%s\nand the code says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var codeWords = regexp.MustCompile("`([^`]+)`")

// Every field of every source is in the table of its section, and nothing else is.
func TestDocumentedFieldsAreThoseOfTheConfigs(t *testing.T) {
	for name, of := range map[string]reflect.Type{
		"every source": reflect.TypeFor[SharedConfig](), "dockerfile": reflect.TypeFor[DockerfileConfig](), "static": reflect.TypeFor[StaticConfig](),
		"image": reflect.TypeFor[ImageConfig](), "compose": reflect.TypeFor[ComposeConfig](),
	} {
		var want, got []string
		for i := range of.NumField() {
			if field := of.Field(i); !field.Anonymous {
				want = append(want, keyOf(field))
			}
		}
		for _, line := range section(t, sourcesDocument(t), "<!-- fields of "+name+" -->", "<!-- end of fields") {
			cells := strings.Split(line, "|")
			for _, word := range codeWords.FindAllStringSubmatch(cells[1], -1) {
				got = append(got, word[1])
			}
		}
		slices.Sort(want)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("of %s are documented\n%q, want\n%q", name, got, want)
		}
	}
}

// The fields of the healthcheck, the build and the resources are named with the field that has them.
func TestDocumentedFieldsNameWhatIsInThem(t *testing.T) {
	document := sourcesDocument(t)
	for field, of := range map[string]reflect.Type{
		"healthcheck": reflect.TypeFor[Healthcheck](), "volumes": reflect.TypeFor[Volume](), "resources": reflect.TypeFor[Resources](),
		"rollback": reflect.TypeFor[RollbackConfig](), "build": reflect.TypeFor[StaticBuild](),
	} {
		_, after, _ := strings.Cut(document, "\n| `"+field+"` |")
		row, _, _ := strings.Cut(after, "\n")
		for i := range of.NumField() {
			if key := keyOf(of.Field(i)); !strings.Contains(row, "`"+key+"`") {
				t.Errorf("the row of %s does not name %s: %s", field, key, row)
			}
		}
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

func TestDocumentedRepoFilesAreTaken(t *testing.T) {
	seen := map[Source]int{}
	for _, block := range yamlBlock.FindAllStringSubmatch(sourcesDocument(t), -1) {
		file, err := DecodeRepoFile([]byte(block[1]))
		if err != nil {
			t.Errorf("%s\nis refused: %v", block[1], err)
			continue
		}
		if err := judged(t, block[1]); err != nil {
			t.Errorf("%s\nis refused by the schema: %v", block[1], err)
		}
		first, _, _ := strings.Cut(block[1], "\n")
		source := Source(first[strings.LastIndex(first, " ")+1:])
		if _, known := base[source]; !known {
			continue
		}
		seen[source]++
		if _, _, err := file.Over(source, []byte(blobOf(source))); err != nil {
			t.Errorf("%s\nis refused by source %s: %v", block[1], source, err)
		}
	}
	if seen[SourceDockerfile] == 0 || seen[SourceStatic] == 0 {
		t.Errorf("there are examples of %v", seen)
	}
}

// Each key of shipgate.yaml is shown in an example.
func TestDocumentedRepoFilesShowEveryKey(t *testing.T) {
	var root schemaNode
	check(t, json.Unmarshal(RepoFileSchema(), &root))
	var shown strings.Builder
	for _, block := range yamlBlock.FindAllStringSubmatch(sourcesDocument(t), -1) {
		shown.WriteString(block[1])
	}
	for key := range root.Properties {
		if !strings.Contains(shown.String(), "\n"+key+":") {
			t.Errorf("no example has %s", key)
		}
	}
}

func TestDocumentedNumbersAreThoseOfTheCode(t *testing.T) {
	words := strings.Join(strings.Fields(sourcesDocument(t)), " ")
	number := map[int]string{5: "five"}[KeptReleases]
	for _, says := range []string{
		"the last " + number + " versions", fmt.Sprintf("files over %d KiB", maxRepoFile>>10), fmt.Sprintf("longer than %.0f minutes", DefaultReleaseTime.Minutes()),
		"`liveness` | `--liveness` | without a health check: how long the process must live and accept connections. Default: `" + DefaultLiveness.String() + "`",
		"how long new requests may wait. Default: `" + DefaultHold.String() + "`", "`timeout` (" + DefaultHealthTimeout.String() + ")",
		"may go on. Default: `" + DefaultDrain.String() + "`", "before it is killed. Default: `" + DefaultStopGrace.String() + "`",
		fmt.Sprintf("stay reachable. Default: `%.0fh`", DefaultKeepAssets.Hours()), "a volume at `" + DenoStorage + "`",
	} {
		if !strings.Contains(words, says) {
			t.Errorf("docs/sources.md does not say %q", says)
		}
	}
}

var composeRule = regexp.MustCompile(`\{field: "([a-z_]+)", asks:`)

// What is refused of a service is read from the rules as they are written: store knows no compose files.
func TestDocumentedRefusalsAreThoseOfCompose(t *testing.T) {
	rules := composeRule.FindAllStringSubmatch(string(must[[]byte](t)(os.ReadFile("../deploy/compose/rules.go"))), -1)
	if len(rules) < 20 {
		t.Fatalf("only %d rules were found", len(rules))
	}
	refused := strings.Join(section(t, sourcesDocument(t), "**What is refused.**", "## shipgate.yaml"), "\n")
	for _, rule := range rules {
		if !strings.Contains(refused, "`"+rule[1]+"`") {
			t.Errorf("docs/sources.md does not say that %s is refused", rule[1])
		}
	}
}
