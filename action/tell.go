package action

import (
	"cmp"
	"fmt"
	"html"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// record sets the outputs and writes the summary, also of a deployment that is not followed to its end.
func (r *run) record(d deployment) error {
	err := r.out.output(r.outputs(d)...)
	if err == nil && r.inputs.summary {
		err = appendTo(r.out.getenv("GITHUB_STEP_SUMMARY"), r.summary(d))
	}
	return err
}

// end gives the verdict as the step's end.
func (r *run) end(d deployment) error {
	switch {
	case d.Verdict == "":
		return nil // nobody waits for it
	case d.Verdict == "succeeded":
		r.out.notice("Deployed", fmt.Sprintf("%s %s is live: %s", d.App, cut(d.SHA, 7), d.URL))
		return nil
	}
	end := r.verdictOf(d)
	if slices.Contains(r.inputs.failOn, d.Verdict) {
		return end
	}
	r.out.command("warning", " title="+escapeProperty.Replace("shipgate: "+d.Verdict), end.Message)
	return nil
}

func (r *run) outputs(d deployment) [][2]string {
	optional := func(number int64) string {
		if number == 0 {
			return ""
		}
		return strconv.FormatInt(number, 10)
	}
	cutover := optional(d.CutoverMS)
	if d.Verdict == "succeeded" {
		cutover = strconv.FormatInt(d.CutoverMS, 10) // also one of less than a millisecond
	}
	return [][2]string{
		{"url", d.URL}, {"deployment-id", optional(d.ID)}, {"status", cmp.Or(d.Verdict, "running")}, {"release", optional(d.Release)},
		{"image-digest", d.ImageDigest}, {"previous-release", optional(d.PreviousRelease)}, {"log-url", r.server.page(d)},
		{"duration-ms", optional(d.DurationMS)}, {"cutover-ms", cutover},
	}
}

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most])
	}
	return text
}

var faultPlace = regexp.MustCompile(`^([\w][\w./-]*):([0-9]+): `)

// verdictOf says why a deployment did not succeed, and where in the repository the fault is.
func (r *run) verdictOf(d deployment) *problem {
	p := &problem{Code: d.Verdict, Message: cmp.Or(d.Reason, d.Verdict) + " · " + r.server.page(d), Hint: d.Hint}
	if found := faultPlace.FindStringSubmatch(d.Reason); found != nil {
		if p.file = r.inWorkspace(found[1]); p.file != "" {
			p.line, _ = strconv.Atoi(found[2])
		}
	}
	return p
}

// inWorkspace names a file of what was deployed as the workspace knows it; empty when it is not in there.
func (r *run) inWorkspace(file string) string {
	if r.inputs.path == "" {
		return file
	}
	workspace := r.out.getenv("GITHUB_WORKSPACE")
	at, err := filepath.Rel(workspace, filepath.Join(r.directory(), filepath.FromSlash(file)))
	if err != nil || workspace == "" || !filepath.IsLocal(at) {
		return ""
	}
	return filepath.ToSlash(at)
}

// summary is a page of Markdown about the deployment. The runner takes a mebibyte of it.
func (r *run) summary(d deployment) string {
	var text strings.Builder
	verdict := cmp.Or(d.Verdict, "running")
	fmt.Fprintf(&text, "### %s: %s\n\n", cell(d.App), cell(verdict))
	rows := [][2]string{
		{"Address", d.URL}, {"Commit", strings.TrimSpace(cut(d.SHA, 7) + " " + d.Subject)}, {"Strategy", strings.TrimSpace(d.Strategy + ": " + d.StrategyReason)},
		{"Deployment", fmt.Sprintf("%d → %d", d.Previous, d.ID)}, {"Log", r.server.page(d)},
	}
	if d.Reason != "" {
		rows = append(rows, [2]string{"Reason", d.Reason})
	}
	text.WriteString("| | |\n|-|-|\n")
	for _, row := range rows {
		fmt.Fprintf(&text, "| %s | %s |\n", row[0], cell(row[1]))
	}
	if picture := picture(d.Steps); picture != "" {
		fmt.Fprintf(&text, "\n```\n%s```\n", picture)
	}
	if verdict != "succeeded" && len(r.tail) > 0 {
		text.WriteString("\n<details><summary>The last lines</summary>\n\n<pre>\n")
		for _, line := range r.tail {
			text.WriteString(html.EscapeString(cut(line, 500)) + "\n")
		}
		text.WriteString("</pre>\n</details>\n")
	}
	return text.String() + "\n"
}

// cell keeps a text in its cell of a table, and from being Markdown or HTML.
func cell(text string) string {
	text = html.EscapeString(cut(plain(text), 500))
	return strings.NewReplacer("|", "&#124;", "`", "&#96;", "*", "&#42;", "_", "&#95;", "[", "&#91;", "]", "&#93;", `\`, "&#92;", "!", "&#33;").Replace(text)
}

// widest is how many characters the longest step is drawn with.
const widest = 40

// picture draws how long each step took.
func picture(steps []stepTime) string {
	longest := int64(1)
	for _, step := range steps {
		longest = max(longest, step.TookMS)
	}
	var text strings.Builder
	for _, step := range steps {
		length := max(1, widest*step.TookMS/longest)
		fmt.Fprintf(&text, "%-8s %s %.2f s\n", plain(strings.ReplaceAll(step.Name, "`", "'")), strings.Repeat("█", int(length)), float64(step.TookMS)/1000)
	}
	return text.String()
}
