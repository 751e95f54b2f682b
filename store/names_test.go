package store

import (
	"fmt"
	"testing"
)

func TestNames(t *testing.T) {
	const id = "0123456789abcdef"
	for got, want := range map[string]string{
		ContainerName(id, "hello", 7):     "shipgate-01234567.hello.7",
		CommandName(id, "hello", 7):       "shipgate-01234567.hello.7.release",
		VolumeName(id, "hello", "data"):   "shipgate-01234567.hello.data",
		NetworkName(id):                   "shipgate-01234567.apps",
		ProjectName(id, "hello"):          "shipgate-01234567_hello_",
		ImageRepository(id, "hello"):      "shipgate-01234567/hello",
		CacheID(id, "hello", "root/.npm"): "shipgate-01234567/hello/root/.npm",
		OldCommandName("hello", 7):        "hello-7-release",
		OldVolumeName("hello", "data"):    "shipgate-hello-data",
		OldNetworkName(id):                "shipgate-01234567",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDeploymentOfAContainer(t *testing.T) {
	for name, want := range map[string]int64{ContainerName("0123456789", "my-app-3", 12): 12, OldContainerName("my-app-3", 12): 12} {
		if got, ok := DeploymentOf(name); got != want || !ok {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	for _, name := range []string{"", "hello", CommandName("0123456789", "hello", 1), OldCommandName("hello", 1)} {
		if got, ok := DeploymentOf(name); ok {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// FuzzNamesOfTwoAppsNeverMeet makes each kind of name for two apps, of one server or two.
func FuzzNamesOfTwoAppsNeverMeet(f *testing.F) {
	f.Add("01234567", "a", "b-c", int64(1), "01234567", "a-b", "c", int64(1))
	f.Add("01234567", "a", "1", int64(11), "01234567", "a-1", "1", int64(1))
	f.Add("01234567", "a", "1.release", int64(1), "01234567", "b", "apps", int64(1))
	f.Add("01234567", "apps", "apps", int64(1), "89abcdef", "apps", "apps", int64(1))
	f.Add("01234567", "a", "../b/x", int64(1), "01234567", "b", "x", int64(1))
	f.Fuzz(func(t *testing.T, server, app, name string, n int64, server2, app2, name2 string, n2 int64) {
		if ValidateAppName(app) != nil || ValidateAppName(app2) != nil || !hexID(server) || !hexID(server2) || n < 0 || n2 < 0 {
			t.Skip()
		}
		if server == server2 && app == app2 {
			t.Skip()
		}
		theirs := map[string]bool{NetworkName(server2): true}
		if server == server2 {
			theirs[NetworkName(server)] = true
		} else if NetworkName(server) == NetworkName(server2) {
			t.Errorf("two servers have the network %s", NetworkName(server))
		}
		for _, one := range namesOf(server2, app2, name2, n2) {
			theirs[one] = true
		}
		for _, one := range namesOf(server, app, name, n) {
			if theirs[one] {
				t.Errorf("%s is of %s on %s and of %s on %s", one, app, server, app2, server2)
			}
		}
	})
}

func hexID(server string) bool {
	var parsed uint32
	_, err := fmt.Sscanf(server, "%08x", &parsed)
	return err == nil && fmt.Sprintf("%08x", parsed) == server
}

// namesOf returns all names that an app has; what Compose appends to a project is a name that the app chose.
func namesOf(server, app, name string, n int64) []string {
	return []string{
		ContainerName(server, app, n), CommandName(server, app, n), VolumeName(server, app, name),
		ProjectName(server, app), ProjectName(server, app) + "-" + name + "-1", ProjectName(server, app) + "_" + name,
		ImageRepository(server, app), CacheID(server, app, name),
	}
}
