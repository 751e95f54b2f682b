package store

import (
	"strings"
	"testing"
)

func TestWhatOnlyOperatorsWiden(t *testing.T) {
	for _, test := range []struct {
		source              Source
		before, after, want string
	}{
		{SourceCompose, `{}`, `{"trusted":true}`, "trusted"},
		{SourceCompose, `{}`, `{"trusted":false,"Trusted":true}`, "trusted"},
		{SourceCompose, `{"trusted":true}`, `{"trusted":true,"service":"web"}`, ""},
		{SourceCompose, `{"trusted":true}`, `{}`, ""},
		{SourceDockerfile, `{"resources":{"memory":"64m","cpus":0.5,"pids":50}}`, `{"resources":{"memory":"65m","cpus":0.6,"pids":51}}`, "resources.memory resources.cpus resources.pids"},
		{SourceDockerfile, `{"resources":{"memory":"64m","cpus":0.5,"pids":50}}`, `{}`, "resources.memory resources.cpus resources.pids"},
		{SourceDockerfile, `{"resources":{"memory":"64m","cpus":0.5,"pids":50}}`, `{"resources":{"memory":"32m","cpus":0.1,"pids":5}}`, ""},
		{SourceDockerfile, `{"resources":{"memory":"64m"}}`, `{"resources":{"memory":"64m"},"port":80}`, ""},
		{SourceDockerfile, `{}`, `{"resources":{"memory":"1g","cpus":64,"pids":512}}`, ""},
		{SourceDockerfile, `{}`, `{"resources":{"pids":513}}`, "resources.pids"},
		{SourceDockerfile, `{"resources":{"pids":1000}}`, `{}`, ""},
	} {
		got, err := OperatorOnly(test.source, []byte(test.before), []byte(test.after))
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("from %s to %s: %q, %v; want %q", test.before, test.after, got, err, test.want)
		}
	}
}
