package builder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/shipgate/shipgate/store"
)

// imageConfig is the part of an image's config that we read.
type imageConfig struct {
	Config struct {
		ExposedPorts map[string]struct{}
		Labels       map[string]string
		Volumes      map[string]struct{}
	}
}

func decodeConfig(text []byte) (imageConfig, error) {
	var config imageConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return imageConfig{}, fmt.Errorf("read image config: %w", err)
	}
	return config, nil
}

// checkConfig looks at what an image brings with it, as its registry tells.
func (g *guardedEngine) checkConfig(ref string, text []byte) error {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return fmt.Errorf("read reference: %w", err)
	}
	config, err := decodeConfig(text)
	if err != nil {
		return err
	}
	_, err = g.build.checkLabels(g.build.request.App, named, config.Config.Labels)
	return err
}

// checkOwnLabels refuses reserved labels that the Dockerfile sets, or that a trigger of a base image does. Those of an earlier image of
// the app may be inherited: ours are written over them.
func (i *imageBuild) checkOwnLabels(labels map[string]string) error {
	own := labels[store.LabelApp] == i.request.App && labels[store.LabelData] == i.serverID
	inherited := []string{store.LabelApp, store.LabelData, store.LabelDeployment}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !store.IsReservedLabel(name) || own && slices.Contains(inherited, name) {
			continue
		}
		return store.Problemf(store.CodeFailed, "%slabel %s is reserved", i.lineOf(name), name).
			WithHint("remove the label, or choose a name that does not begin with dev.shipgate. or com.docker.compose.")
	}
	return nil
}

// warnOfVolumes says of each VOLUME of the image that the app has no volume for: what is written there goes with the container.
func (i *imageBuild) warnOfVolumes(volumes map[string]struct{}) {
	if _, isStack := i.request.Config.(*store.ComposeConfig); isStack || i.request.Config == nil {
		return // the compose file says what is mounted
	}
	i.volumes = strings.Join(slices.Sorted(maps.Keys(volumes)), "\n")
	for _, where := range (store.Artefact{Volumes: i.volumes}).Uncovered(i.request.Config) {
		i.log.say("note: the image declares VOLUME %s, and the app has no volume there: its data is lost with the next deployment; keep it with: shipgate app update %s --volume data:%s", where, i.request.App, where)
	}
}

// lineOf finds the first line of the Dockerfile that has a text.
func (i *imageBuild) lineOf(text string) place {
	if i.recipe.text != "" {
		return place{} // it is one that the user has never seen
	}
	for number, line := range bytes.Split(i.definitionText, []byte("\n")) {
		if bytes.Contains(line, []byte(text)) {
			return place{file: i.dockerfile, line: number + 1}
		}
	}
	return place{}
}

// setLabels writes our labels into the image's config and leaves the rest of it as it is.
func (i *imageBuild) setLabels(result *gateway.Result) error {
	var whole, config map[string]json.RawMessage
	labels := map[string]string{}
	err := json.Unmarshal(result.Metadata[exptypes.ExporterImageConfigKey], &whole)
	if err == nil && whole["config"] != nil {
		err = json.Unmarshal(whole["config"], &config)
	}
	if err == nil && config["Labels"] != nil {
		err = json.Unmarshal(config["Labels"], &labels)
	}
	if err != nil {
		return fmt.Errorf("read image config: %w", err)
	}
	if config == nil {
		config = map[string]json.RawMessage{}
	}
	if labels == nil {
		labels = map[string]string{}
	}
	labels[store.LabelApp] = i.request.App
	labels[store.LabelData] = i.serverID
	labels[store.LabelDeployment] = strconv.FormatInt(i.request.Deployment, 10)
	if config["Labels"], err = json.Marshal(labels); err != nil {
		return fmt.Errorf("write labels: %w", err)
	}
	if whole["config"], err = json.Marshal(config); err != nil {
		return fmt.Errorf("write labels: %w", err)
	}
	text, err := json.Marshal(whole)
	if err != nil {
		return fmt.Errorf("write labels: %w", err)
	}
	result.Metadata[exptypes.ExporterImageConfigKey] = text
	return nil
}
