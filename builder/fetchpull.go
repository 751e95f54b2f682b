package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

// parseReference reads a reference as docker pull takes it. A reference with a digest loses its tag.
func parseReference(text string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(text)
	if err != nil {
		return nil, store.Problemf(store.CodeFailed, "%q is not a reference to an image: %w", text, err).
			WithHint("write it as docker pull takes it: ghcr.io/owner/name:1.2")
	}
	return named, nil
}

// pull has the engine get an image under its own name, with the credentials for its registry.
func (b *Builder) pull(ctx context.Context, app string, named reference.Named, log func(string)) error {
	login, err := b.loginFor(ctx, app, named)
	if err != nil {
		return err
	}
	header, err := login.header()
	if err != nil {
		return err
	}
	stream, err := b.docker.ImagePull(ctx, named.String(), image.PullOptions{RegistryAuth: header})
	if err == nil {
		err = showPull(stream, func(line string) { log(login.hide(line)) })
	}
	if err != nil {
		return b.registryProblem("", named, login, err)
	}
	return nil
}

// showPull logs what the engine says, but for the progress of each layer. Errors come inside the stream.
func showPull(stream io.ReadCloser, log func(string)) error {
	defer stream.Close()
	for decoder := json.NewDecoder(stream); ; {
		var message struct{ ID, Status, Progress, Error string }
		err := decoder.Decode(&message)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("pull image: %w", err)
		case message.Error != "":
			return errors.New(message.Error)
		case message.Progress != "":
		case message.ID != "":
			log(message.ID + ": " + message.Status)
		default:
			log(message.Status)
		}
	}
}
