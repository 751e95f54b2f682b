package gitserver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestTreeNames(t *testing.T) {
	r := newRig(t, hostileLimits)
	blob := idOf(plumbing.BlobObject, []byte("hello\n"))
	for _, name := range []string{
		"", ".", "..", "a/b", "../../etc/x", "/",
		".git", ".GIT", ".Git", ".gIt", "git~1", "GIT~1", ".git ", ".git.", ".git. .", ".git...", "git~1 ", "git~1.",
		".git:$INDEX_ALLOCATION", ".git::$INDEX_ALLOCATION", "git~1:x", `a\.git`, `.git\x`, `x\git~1\y`,
		".g\u200cit", ".\u200dgit", "\ufeff.git", ".git\u200f", ".G\u202aI\u206fT", ".gi\u206at",
	} {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			for _, mode := range []string{"100644", "40000", "120000", "160000"} {
				var p packBuilder
				id := p.add(plumbing.BlobObject, []byte("hello\n"))
				if mode == "40000" {
					id = p.add(plumbing.TreeObject, nil)
				}
				tip := p.commitOf(treeLine(mode, name, id))
				answer := r.post(request("refs/heads/x", zeroID, tip.String()) + string(p.bytes()))
				contains(t, answer, "ng refs/heads/x ", "has an entry")
			}
		})
	}
	for _, name := range []string{"git", ".gitignore", ".gitmodules", ".github", "git~2", "..git", "...", ".git~1", "a.git", ".git-x", "\xff\xfe", "ａ", "CON", "a:b", "x\u200cy"} {
		if err := checkTree(treeLine("100644", name, blob), wantAnything); err != nil {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
	equal(t, "packs", r.packs(), 0)
	r.clean()
}

func wantAnything(plumbing.Hash, plumbing.ObjectType) error { return nil }

func TestTreeModesAndOrder(t *testing.T) {
	blob := idOf(plumbing.BlobObject, []byte("hello\n"))
	line := func(mode, name string) string { return string(treeLine(mode, name, blob)) }
	for _, test := range []struct{ name, tree, want string }{
		{"all modes", line("100644", "a") + line("100755", "b") + line("120000", "c") + line("160000", "d") + line("40000", "e") + line("100664", "f"), ""},
		{"a directory in git's order", line("100644", "a.b") + line("40000", "a") + line("100644", "a0"), ""},
		{"mode 777777", line("777777", "a"), "mode 777777"},
		{"mode 0", line("0", "a"), "mode 0"},
		{"mode 100600", line("100600", "a"), "mode 100600"},
		{"no octal", line("10064x", "a"), `mode "10064x"`},
		{"an endless mode", line(strings.Repeat("1", 40), "a"), "mode"},
		{"a name twice", line("100644", "a") + line("100644", "a"), `has "a" twice`},
		{"a directory twice", line("40000", "a") + line("40000", "a"), `has "a" twice`},
		{"a file and a directory", line("100644", "a") + line("40000", "a"), `has "a" twice`},
		{"a file and a directory apart", line("100644", "a") + line("100644", "a.b") + line("100644", "a.c") + line("40000", "a"), `has "a" twice`},
		{"a symlink and a directory apart", line("120000", "a") + line("40000", "a-b") + line("40000", "a"), `has "a" twice`},
		{"out of order", line("100644", "b") + line("100644", "a"), `has "a" out of order`},
		{"directories as if they were files", line("40000", "a") + line("100644", "a.b"), `has "a.b" out of order`},
		{"no space", "100644a\x00" + string(blob[:]), "is cut off"},
		{"no end of the name", "100644 a", "is cut off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checkTree([]byte(test.tree), wantAnything)
			if test.want == "" {
				check(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestRefNames(t *testing.T) {
	r := newRig(t, Limits{})
	var p packBuilder
	tip := plain(&p).String()
	for _, name := range []string{
		"HEAD", "config", "refs/heads/x.lock", "refs/heads/../../config", "refs/heads/../x", "refs/heads/.x", "refs/heads/x/.y",
		"refs/heads/a..b", "refs/heads/a b", "refs/heads/a~b", "refs/heads/a^b", "refs/heads/a:b", "refs/heads/a?b", "refs/heads/a*b",
		"refs/heads/a[b", `refs/heads/a\b`, "refs/heads/x/", "refs/heads//x", "refs/heads/x.", "refs/heads/@{x", "refs/heads/-x",
		"refs/heads/\x01x", "refs/heads/" + strings.Repeat("x", 201), "refs/heads/" + strings.Repeat("x/", 300) + "x",
		"refs/deployments/1", "refs/deployments/x", "refs/remotes/a/b", "refs/x", "refs/heads", "../../x", "/etc/x",
	} {
		answer := r.post(request(name, zeroID, tip) + string(p.bytes()))
		if !strings.Contains(answer, "ng "+name+" ") {
			t.Errorf("%q was taken: %q", name, answer)
		}
	}
	contains(t, r.post(request("refs/deployments/1", zeroID, tip)+string(p.bytes())), "refs/deployments is kept by the server")
	both := packet(zeroID+" "+tip+" refs/heads/x\x00report-status") + packet(zeroID+" "+tip+" refs/heads/x") + "0000" + string(p.bytes())
	contains(t, r.post(both), "ng refs/heads/x refs/heads/x is in the push twice")
	equal(t, "packs", r.packs(), 0)
	r.clean()
}

func TestRequestLimits(t *testing.T) {
	tip := strings.Repeat("1", 40)
	many := packet(zeroID + " " + tip + " refs/heads/x\x00report-status push-options")
	for i := range 12 {
		many += packet(fmt.Sprintf("%s %s refs/heads/x%d", zeroID, tip, i))
	}
	long := strings.Repeat(packet(zeroID+" "+tip+" refs/heads/"+strings.Repeat("x", 65000)), 100)
	for _, test := range []struct{ name, body, want string }{
		{"many refs", many + "0000", "more than 10 refs"},
		{"long names", long + "0000", "longer than"},
		{"no end", packet(zeroID + " " + tip + " refs/heads/x\x00report-status"), "ends too early"},
		{"nothing", "", "ends too early"},
		{"a bad length", "zzzz", "not understood"},
		{"no name", packet(zeroID+" "+tip) + "0000", "not understood"},
		{"no ids", packet("x y refs/heads/x") + "0000", "not understood"},
		{"a certificate", packet("push-cert\x00report-status") + "0000", "not understood"},
		{"many options", packet(zeroID+" "+tip+" refs/heads/x\x00push-options") + "0000" + strings.Repeat(packet("o"), 101) + "0000", "more than 100 options"},
	} {
		t.Run(test.name, func(t *testing.T) {
			limits := Limits{Commands: 10}.withDefaults()
			if test.name == "long names" {
				limits.Commands = 1000
			}
			_, err := decodeRequest(strings.NewReader(test.body), limits)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
