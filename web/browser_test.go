package web

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/shipgate/shipgate/store"
)

// chromium opens a tab of a browser of its own.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("SHIPGATE_TEST_BROWSER") == "required" {
			t.Fatalf("no browser: %v", err)
		}
		t.Skip("NO CHROMIUM IS INSTALLED: the pages were not opened in a browser; scripts/packages.sh installs one")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox)
	bounded, cancel := context.WithTimeout(t.Context(), 2*deadline)
	t.Cleanup(cancel)
	browser, end := chromedp.NewExecAllocator(bounded, options...)
	t.Cleanup(end)
	tab, closeTab := chromedp.NewContext(browser)
	t.Cleanup(func() { _ = chromedp.Cancel(tab); closeTab() })
	return tab
}

func do(t *testing.T, tab context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(tab, steps...); err != nil {
		t.Fatal(err)
	}
}

// ask gives what the page answers.
func ask[T any](t *testing.T, tab context.Context, question chromedp.Action[T]) T {
	t.Helper()
	answer, err := chromedp.Run(tab, question)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// shows waits until the page has a text.
func shows(t *testing.T, tab context.Context, selector, text string) {
	t.Helper()
	found := fmt.Sprintf(`(document.querySelector(%q)?.textContent ?? "").includes(%q)`, selector, text)
	_, err := chromedp.Run(tab, chromedp.Poll[bool](found, chromedp.WithPollingTimeout(deadline)))
	for tries := 0; err != nil && tries < 5; tries++ { // the page that was asked has gone to another one
		_, err = chromedp.Run(tab, chromedp.Poll[bool](found, chromedp.WithPollingTimeout(deadline)))
	}
	if err != nil {
		t.Fatalf("%s does not show %q: %v", selector, text, err)
	}
}

func signInByForm(t *testing.T, tab context.Context, l *lab) {
	t.Helper()
	do(t, tab, chromedp.WaitVisible("#token"), chromedp.SendKeys("#token", l.admin), chromedp.Click("main button"), chromedp.WaitVisible("#summary"))
}

// A browser signs in on the way to a page, sees lines arrive without loading it again, and then the verdict.
func TestBrowserFollowsDeployment(t *testing.T) {
	tab := chromium(t)
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	l.line(d, "the first line")
	do(t, tab, chromedp.Navigate(fmt.Sprintf("%s/deployments/%d", l.url, d.ID)))
	signInByForm(t, tab, l)
	shows(t, tab, "#log", "the first line")
	shows(t, tab, "#follow", "Following live")
	ask(t, tab, chromedp.Evaluate[bool](`window.loadedOnce = true`))
	l.line(d, "a line <b>that comes</b> later")
	shows(t, tab, "#log", "a line <b>that comes</b> later")
	l.advance(d, store.StepLive)
	shows(t, tab, "h1", "succeeded")
	shows(t, tab, "#summary", "serves now")
	if !ask(t, tab, chromedp.Evaluate[bool](`window.loadedOnce === true`)) {
		t.Error("the page was loaded again")
	}
	if title := ask(t, tab, chromedp.Title()); !strings.HasPrefix(title, "succeeded") {
		t.Errorf("the title is %q", title)
	}
}

func TestBrowserCancels(t *testing.T) {
	tab := chromium(t)
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	do(t, tab, chromedp.Navigate(fmt.Sprintf("%s/deployments/%d", l.url, d.ID)))
	signInByForm(t, tab, l)
	do(t, tab, chromedp.Click("#cancel"))
	shows(t, tab, "h1", "being cancelled")
	if d, _ = l.store.Deployment(t.Context(), d.ID); !d.CancelAsked {
		t.Error("nobody asked to cancel")
	}
}

// Without script the page reads the same, and asks again by itself until the verdict.
func TestBrowserWithoutScript(t *testing.T) {
	tab := chromium(t)
	l := newLab(t)
	l.createApp("hello")
	l.publish("hello", true)
	d := l.enqueue("hello")
	l.line(d, "the first line")
	ask(t, tab, func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return chromedp.Void{}, err
	})
	do(t, tab, chromedp.Navigate(fmt.Sprintf("%s/deployments/%d?key=%s", l.url, d.ID, l.store.PageKey(d.ID))))
	shows(t, tab, "h1", "running")
	shows(t, tab, "#log", "the first line")
	l.advance(d, store.StepLive)
	shows(t, tab, "h1", "succeeded")
}
