package action

import (
	"cmp"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tell sets the outputs, writes the summary, and gives the verdict as the step's end.
func (r *run) tell(d deployment) error {
	if err := r.out.output(r.outputs(d)...); err != nil {
		return err
	}
	if r.inputs.summary {
		if err := appendTo(r.out.getenv("GITHUB_STEP_SUMMARY"), r.summary(d)); err != nil {
			return err
		}
	}
	switch {
	case d.Verdict == "":
		return nil // nobody waits for it
	case d.Verdict == "succeeded":
		r.out.notice("Deployed", fmt.Sprintf("%s %s is live: %s", d.App, cut(d.SHA, 7), d.URL))
		return nil
	}
	end := verdictOf(d, r.server.page(d.ID))
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
	duration := ""
	if d.Verdict != "" {
		duration = milliseconds(d.FinishedAt.Sub(d.CreatedAt))
	}
	return [][2]string{
		{"url", d.URL}, {"deployment-id", optional(d.ID)}, {"status", cmp.Or(d.Verdict, "running")}, {"release", optional(d.Release)},
		{"image-digest", d.Digest}, {"previous-release", optional(d.Previous)}, {"log-url", r.server.page(d.ID)},
		{"duration-ms", duration}, {"cutover-ms", milliseconds(r.between("healthy", "live"))},
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most])
	}
	return text
}

var faultPlace = regexp.MustCompile(`^([\w][\w./-]*):([0-9]+): `)

// verdictOf says why a deployment did not succeed, and where in the repository the fault is.
func verdictOf(d deployment, page string) *problem {
	p := &problem{Code: d.Verdict, Message: cmp.Or(d.Reason, d.Verdict) + " · " + page, Hint: d.Hint}
	if found := faultPlace.FindStringSubmatch(d.Reason); found != nil {
		p.file = found[1]
		p.line, _ = strconv.Atoi(found[2])
	}
	return p
}

// summary is a page of Markdown about the deployment. The runner takes a mebibyte of it.
func (r *run) summary(d deployment) string {
	var text strings.Builder
	verdict := cmp.Or(d.Verdict, "running")
	fmt.Fprintf(&text, "### %s: %s\n\n", cell(d.App), cell(verdict))
	rows := [][2]string{
		{"Address", d.URL}, {"Commit", strings.TrimSpace(cut(d.SHA, 7) + " " + d.Subject)}, {"Strategy", strings.TrimSpace(d.Strategy + ": " + d.StrategyReason)},
		{"Deployment", fmt.Sprintf("%d → %d", d.Previous, d.ID)}, {"Log", r.server.page(d.ID)},
	}
	if d.Reason != "" {
		rows = append(rows, [2]string{"Reason", d.Reason})
	}
	text.WriteString("| | |\n|-|-|\n")
	for _, row := range rows {
		fmt.Fprintf(&text, "| %s | %s |\n", row[0], cell(row[1]))
	}
	if picture := r.picture(d); picture != "" {
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
func (r *run) picture(d deployment) string {
	names := map[string]string{"built": "build", "held": "drain", "stopped": "stop", "started": "start", "healthy": "gate", "routed": "cutover", "live": "settle"}
	last, longest := d.CreatedAt, time.Duration(0)
	type bar struct {
		name string
		took time.Duration
	}
	var bars []bar
	for _, reached := range r.steps {
		if name := names[reached.step]; name != "" {
			took := max(0, reached.at.Sub(last))
			bars = append(bars, bar{name, took})
			longest = max(longest, took)
		}
		last = reached.at
	}
	var text strings.Builder
	for _, b := range bars {
		length := 1
		if longest > 0 {
			length = max(1, int(widest*b.took/longest))
		}
		fmt.Fprintf(&text, "%-8s %s %.2f s\n", b.name, strings.Repeat("█", length), b.took.Seconds())
	}
	return text.String()
}
