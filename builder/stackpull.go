package builder

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"

	"github.com/shipgate/shipgate/store"
)

// pullStackImage has the engine get an image, with the app's credentials for its registry.
func (b *Builder) pullStackImage(ctx context.Context, named reference.Named, log func(string)) error {
	login, err := b.stackLogin(ctx, reference.Domain(named))
	if err != nil {
		return err
	}
	stream, err := b.docker.ImagePull(ctx, named.String(), image.PullOptions{RegistryAuth: login})
	if err == nil {
		err = followPull(stream, log)
	}
	if err == nil {
		return nil
	}
	if problem := b.engineTrouble(err); problem != nil {
		return problem
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return store.Problemf(store.CodeFailed, "image %s is neither local nor pullable: %s", named, shorten(err.Error())).
		WithHint("docker pull %s", named)
}

func (b *Builder) stackLogin(ctx context.Context, host string) (string, error) {
	if b.login == nil {
		return "", nil
	}
	username, password, found, err := b.login(ctx, host)
	if err != nil || !found {
		return "", err
	}
	text, err := json.Marshal(registry.AuthConfig{Username: username, Password: password, ServerAddress: host})
	return base64.URLEncoding.EncodeToString(text), err
}

// followPull hands on what the engine says, but for the progress of each layer. Its errors come inside the stream.
func followPull(stream io.ReadCloser, log func(string)) error {
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
		case message.Progress == "" && message.ID != "":
			log(message.ID + ": " + message.Status)
		case message.Progress == "":
			log(message.Status)
		}
	}
}
