package builder

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/shipgate/shipgate/store"
)

// victimOf builds an image of another app on the same engine, and returns its tag and id.
func victimOf(t *testing.T, l *lab, base string) store.Artefact {
	t.Helper()
	own := l.app
	defer func() { l.app = own }()
	l.app += "-victim"
	return l.must(t, commit{"Dockerfile": "FROM " + base + "\nRUN echo secret of the victim > /secret\nEXPOSE 80\n"}, &store.DockerfileConfig{})
}

// names returns the ways in which somebody may write an image of another app.
func spellings(victim store.Artefact) map[string]string {
	id := strings.TrimPrefix(victim.Image, "sha256:")
	return map[string]string{
		"tag": victim.ImageTag, "registry": "docker.io/" + victim.ImageTag, "old registry": "index.docker.io/" + victim.ImageTag,
		"id": id, "short id": id[:12], "id with algorithm": "sha256:" + id, "digest": victim.ImageTag + "@sha256:" + id, "nameless digest": "x@sha256:" + id,
	}
}

func TestImagesOfOtherAppsAreOutOfReach(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	victim := victimOf(t, l, base)
	retagged := l.app + "x/retagged:1" // by the operator: under a name that no rule knows
	if err := l.docker.ImageTag(t.Context(), victim.Image, retagged); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.removeName(t, retagged) })
	names := spellings(victim)
	names["retagged"] = retagged
	for way, text := range map[string]string{
		"FROM":       "FROM IMAGE\nEXPOSE 80\n",
		"FROM as":    "FROM IMAGE AS x\nFROM scratch\nCOPY --from=x /secret /\nEXPOSE 80\n",
		"FROM arg":   "ARG X=IMAGE\nFROM $X\nEXPOSE 80\n",
		"COPY":       "FROM scratch\nCOPY --from=IMAGE /secret /\nEXPOSE 80\n",
		"mount":      "FROM " + base + "\nRUN --mount=from=IMAGE,target=/x cat /x/secret > /stolen\nEXPOSE 80\n",
		"cache from": "FROM " + base + "\nRUN --mount=type=cache,target=/x,from=IMAGE cat /x/secret > /stolen\nEXPOSE 80\n",
	} {
		for spelling, name := range names {
			artefact, log, err := l.build(t, commit{"Dockerfile": strings.ReplaceAll(text, "IMAGE", name)}, &store.DockerfileConfig{})
			if err == nil {
				t.Errorf("%s by %s: built %s\n%s", way, spelling, artefact.Image, log)
				continue
			}
			if p := problem(t, err, store.CodeFailed); spelling == "tag" && (!strings.Contains(p.Message, "is of app "+l.app+"-victim") || !strings.Contains(p.Message, "Dockerfile:") || p.Hint == "") {
				t.Errorf("%s by %s: %q, hint %q", way, spelling, p.Message, p.Hint)
			}
		}
	}
	for spelling, name := range names {
		if got, _, err := l.build(t, nothing{}, &store.ImageConfig{Image: name, SharedConfig: store.SharedConfig{Port: 80}}); err == nil {
			t.Errorf("source image by %s: %+v", spelling, got)
		}
		stackLab(t, l, store.StackPlan{Routed: "web", Port: 80, Services: []store.StackService{{Name: "web", Image: name}}})
		if got, _, err := l.build(t, commit{"compose.yaml": "x"}, &store.ComposeConfig{}); err == nil {
			t.Errorf("service by %s: %+v", spelling, got)
		}
	}
}

func TestOwnImagesCanBeUsed(t *testing.T) {
	l := newEngineLab(t)
	first := l.must(t, commit{"Dockerfile": "FROM " + l.base(t) + "\nRUN echo mine > /mine\nEXPOSE 80\n"}, &store.DockerfileConfig{})
	second := l.must(t, commit{"Dockerfile": "FROM " + first.ImageTag + "\nRUN cat /mine > /copy\n"}, &store.DockerfileConfig{})
	if got := l.read(t, second.Image, "copy"); got != "mine\n" {
		t.Errorf("the file is %q", got)
	}
	inspected, err := l.docker.ImageInspect(t.Context(), second.Image)
	if err != nil || inspected.Config.Labels[store.LabelDeployment] != "2" {
		t.Errorf("labels are %v, %v", inspected.Config.Labels, err)
	}
}

func TestLocalImagesNeedTheOperator(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	l.policy = store.Policy{}
	for way, text := range map[string]string{
		"FROM": "FROM " + base + "\nEXPOSE 80\n", "COPY": "FROM scratch\nCOPY --from=" + base + " /bin/busybox /\nEXPOSE 80\n",
	} {
		_, _, err := l.build(t, commit{"Dockerfile": text}, &store.DockerfileConfig{})
		if p := problem(t, err, store.CodeFailed); !strings.Contains(p.Message, "only this engine has") || !strings.Contains(p.Message, "Dockerfile:") || !strings.Contains(p.Hint, "--allow-image") {
			t.Errorf("%s: %q, hint %q", way, p.Message, p.Hint)
		}
	}
}

func TestSourcesThatAreNotPublic(t *testing.T) {
	l := newEngineLab(t)
	asked := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		_, _ = w.Write([]byte("secret of the host"))
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	_, port, _ := strings.Cut(host, ":")
	base := l.base(t)
	l.policy = policyOf(t, store.PolicyRules{Images: []string{l.app + "/*"}})
	for _, line := range []string{
		"ADD http://HOST/x /x", "ADD http://localhost:PORT/x /x", "ADD http://127.1:PORT/x /x", "ADD http://[::ffff:127.0.0.1]:PORT/x /x",
		"ADD http://2130706433:PORT/x /x", "ADD http://0.0.0.0:PORT/x /x", "ADD http://u:p@HOST/x /x", "ARG H=HOST\nADD http://$H/x /x",
		"ADD https://HOST/x /x", "ADD http://HOST/x.git /x", "ADD git://HOST/x.git /x", "ADD https://HOST/x.git#main /x", "ADD --keep-git-dir=true http://HOST/a.git#main /x",
		"ADD http://metadata/x /x", "ADD http://169.254.169.254/latest /x", "ADD http://metadata.google.internal/x /x",
		"FROM HOST/x:1", "FROM localhost:PORT/x", "FROM localhost/x", "FROM registry:5000/x", "FROM 10.0.0.1/x@sha256:" + strings.Repeat("0", 64),
		"COPY --from=HOST/x:1 / /", "RUN --mount=from=HOST/x,target=/x true",
	} {
		text := strings.NewReplacer("HOST", host, "PORT", port).Replace(line)
		dockerfile := "FROM " + base + "\n" + text + "\nEXPOSE 80\n"
		_, log, err := l.build(t, commit{"Dockerfile": dockerfile}, &store.DockerfileConfig{})
		if err == nil {
			t.Errorf("%s: built\n%s", text, log)
			continue
		}
		if p := problem(t, err, store.CodeFailed); !strings.Contains(p.Message, "not a public host") || !strings.Contains(p.Message, "Dockerfile:") || !strings.Contains(p.Hint, "--allow-source") {
			t.Errorf("%s: %q, hint %q", text, p.Message, p.Hint)
		}
	}
	if _, _, err := l.build(t, nothing{}, &store.ImageConfig{Image: host + "/x:1"}); !strings.Contains(problem(t, err, store.CodeFailed).Message, "not a public host") {
		t.Errorf("source image: %v", err)
	}
	if len(asked) > 0 {
		t.Errorf("the host was asked for %s", <-asked)
	}
	l.policy = policyOf(t, store.PolicyRules{Images: []string{l.app + "/*"}, Sources: []string{host}})
	artefact := l.must(t, commit{"Dockerfile": "FROM " + base + "\nADD http://" + host + "/x /x\nEXPOSE 80\n"}, &store.DockerfileConfig{})
	if got := l.read(t, artefact.Image, "x"); got != "secret of the host" {
		t.Errorf("what the operator allows gives %q", got)
	}
}

func TestReservedLabelsAreRefused(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	for name, label := range map[string]string{"role": store.LabelRole, "app": store.LabelApp, "compose": "com.docker.compose.project"} {
		dockerfile := "FROM scratch\nCOPY Dockerfile /\nEXPOSE 80\nLABEL a=b " + label + "=other\n"
		_, _, err := l.build(t, commit{"Dockerfile": dockerfile}, &store.DockerfileConfig{})
		if p := problem(t, err, store.CodeFailed); p.Message != "Dockerfile:4: label "+label+" is reserved" {
			t.Errorf("Dockerfile, %s: %q", name, p.Message)
		}
		r.push(t, name+":1", 1024, func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{label: "other"} })
		r.push(t, name+"-onbuild:1", 1024, func(c *v1.ConfigFile) { c.Config.OnBuild = []string{"LABEL " + label + "=other"} })
		reference := r.host + "/" + name + ":1"
		t.Cleanup(func() { l.removeName(t, reference) })
		for way, try := range map[string]func() error{
			"FROM": func() error {
				_, _, err := l.build(t, commit{"Dockerfile": "FROM " + reference + "\n"}, &store.DockerfileConfig{})
				return err
			},
			"trigger": func() error {
				_, _, err := l.build(t, commit{"Dockerfile": "FROM " + r.host + "/" + name + "-onbuild:1\n"}, &store.DockerfileConfig{})
				return err
			},
			"source": func() error { _, _, err := l.fetch(t, reference); return err },
			"service": func() error {
				stackLab(t, l, store.StackPlan{Routed: "web", Port: 80, Services: []store.StackService{{Name: "web", Image: reference}}})
				_, _, err := l.build(t, commit{"compose.yaml": "x"}, &store.ComposeConfig{})
				return err
			},
		} {
			if p := problem(t, try(), store.CodeFailed); !strings.Contains(p.Message, label) && !strings.Contains(p.Message, "is of app other") {
				t.Errorf("%s, %s: %q", way, name, p.Message)
			}
		}
	}
}

// What one app's steps leave in a cache, another app's do not find, whatever id and namespace they name.
func TestCachesOfOtherAppsAreOutOfReach(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	own := l.app
	write := func(id string) string {
		return "FROM " + base + "\nRUN --mount=type=cache," + id + "target=/cache echo poison > /cache/file # " + own + "\nEXPOSE 80\n"
	}
	read := func(id string) string {
		return "FROM " + base + "\nRUN --mount=type=cache," + id + "target=/cache ls /cache > /found; true # " + own + "\nEXPOSE 80\n"
	}
	for _, id := range []string{"", "id=chosen,", "id=../x,", "id=" + l.repository(own+"-victim") + "//cache,"} {
		l.app = own + "-victim"
		l.must(t, commit{"Dockerfile": write(id)}, &store.DockerfileConfig{})
		l.app = own
		for _, namespace := range []map[string]string{nil, {"BUILDKIT_CACHE_MOUNT_NS": l.repository(own + "-victim")}} {
			artefact := l.must(t, commit{"Dockerfile": read(id)}, &store.DockerfileConfig{BuildArgs: namespace})
			if got := l.read(t, artefact.Image, "found"); got != "" {
				t.Errorf("cache %q with %v: found %q", id, namespace, got)
			}
		}
	}
	for _, directory := range []string{"/../victim/root/.npm", "/a/../b", "a/./b", "//a", "/a/", ".."} {
		config := &store.StaticConfig{Build: &store.StaticBuild{Image: base, Output: "out", Command: "mkdir out", Cache: []string{directory}}}
		_, _, err := l.build(t, commit{"a": "x"}, config)
		if p := problem(t, err, store.CodeFailed); !strings.Contains(p.Message, "build.cache "+directory) {
			t.Errorf("build.cache %s: %q", directory, p.Message)
		}
	}
}

// An image that somebody built FROM one of ours, or tagged, outlives the collection.
func TestCollectLeavesWhatWasBuiltFromOurs(t *testing.T) {
	l := newEngineLab(t)
	artefact := l.must(t, commit{"Dockerfile": "FROM " + l.base(t) + "\nRUN echo " + l.app + "\nEXPOSE 80\n"}, &store.DockerfileConfig{})
	name := l.app + "/foreign:keep"
	if err := l.docker.ImageTag(t.Context(), artefact.Image, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.removeName(t, name) })
	if _, err := l.Collect(t.Context(), l.keeping(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.docker.ImageInspect(context.WithoutCancel(t.Context()), name); err != nil {
		t.Errorf("an image under a foreign name: %v", err)
	}
	images, err := l.docker.ImageList(t.Context(), image.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range images {
		if strings.Contains(strings.Join(one.RepoTags, " "), artefact.ImageTag) {
			t.Error("our tag is still there")
		}
	}
}

func TestVolumesWithoutAVolumeAreTold(t *testing.T) {
	l := newEngineLab(t)
	config := &store.DockerfileConfig{SharedConfig: store.SharedConfig{Port: 80, Volumes: []store.Volume{{Name: "kept", Path: "/kept/"}}}}
	made, log, err := l.build(t, commit{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\nVOLUME /data /kept\n"}, config)
	if err != nil || made.Volumes != "/data\n/kept" || !strings.Contains(log, "VOLUME /data") || !strings.Contains(log, "--volume data:/data") || strings.Contains(log, "VOLUME /kept,") {
		t.Errorf("%v\n%s", err, log)
	}
	if volumes, err := l.ImageVolumes(t.Context(), made.Image); err != nil || volumes != made.Volumes {
		t.Errorf("the image has the volumes %q, %v", volumes, err)
	}
	if volumes, err := l.ImageVolumes(t.Context(), "sha256:"+strings.Repeat("0", 64)); err != nil || volumes != "" {
		t.Errorf("an image that is gone has the volumes %q, %v", volumes, err)
	}
}

func TestAddOverSSHIsRefused(t *testing.T) {
	l := newLab(t, Limits{})
	for _, source := range []string{"git@127.0.0.1:x.git", "ssh://127.0.0.1:6379/x.git", "git@$HOST:x.git", "SSH://git@localhost/x"} {
		_, _, err := l.build(t, commit{"Dockerfile": "FROM scratch\nADD " + source + " /\n"}, &store.DockerfileConfig{})
		if p := problem(t, err, store.CodeFailed); !strings.Contains(p.Message, "Dockerfile:2: ADD "+source) {
			t.Errorf("%s: %q", source, p.Message)
		}
	}
	for _, source := range []string{"https://u:p@example.com/x", "app.jar", "${JAR:-app.jar}", "https://example.com/x.git#main"} {
		if isSSH(source) {
			t.Errorf("%s is taken for SSH", source)
		}
	}
}
