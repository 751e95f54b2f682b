package web

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// uploadPath takes bodies that are larger than maxBody.
const uploadPath = "/api/v1/apps/:app/uploads"

// maxUpload bounds the body of an upload as it is sent, in bytes; the git side bounds what it holds.
const maxUpload = 1 << 30

// uploadIdle is how long an upload may bring no byte. However slow it is otherwise, it is waited for.
const uploadIdle = time.Minute

// steadyBody gives up on a client that sends nothing.
type steadyBody struct {
	io.ReadCloser
	control *http.ResponseController
	idle    time.Duration
}

func (b *steadyBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(b.idle)) // what cannot have a deadline is not from outside
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = store.Problemf(store.CodeUsage, "the client sent nothing for %s", b.idle).WithHint("send the files again")
	}
	return n, err
}

// end takes the deadline off again: the server goes on to watch whether the client is there.
func (b *steadyBody) end() { _ = b.control.SetReadDeadline(time.Time{}) }

// createUpload makes a commit of a tar stream. Nothing is deployed by that.
func (s *server) createUpload(c echo.Context) error {
	app, err := s.Store.App(c.Request().Context(), c.Param("app"))
	if err != nil {
		return err
	}
	if app.Source == store.SourceImage {
		return store.Problemf(store.CodeUsage, "%s runs an image, not files", app.Name).WithHint("shipgate deploy %s --image REF", app.Name)
	}
	body := &steadyBody{ReadCloser: c.Request().Body, control: http.NewResponseController(c.Response()), idle: uploadIdle}
	defer body.end()
	stream, err := uploadStream(http.MaxBytesReader(c.Response(), body, maxUpload), c.Request().Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	upload, err := s.Repositories.Upload(c.Request().Context(), app, c.QueryParam("subject"), stream)
	if err != nil {
		return err
	}
	noteDetail(c, "%s, %d files", upload.SHA, upload.Files)
	return c.JSON(http.StatusCreated, upload)
}

// uploadStream unpacks a body where its type says that it is compressed.
func uploadStream(body io.Reader, contentType string) (io.Reader, error) {
	switch kind, _, _ := mime.ParseMediaType(contentType); kind {
	case "application/x-tar":
		return body, nil
	case "application/gzip":
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return nil, store.Problemf(store.CodeUsage, "the upload is not gzip: %w", err).WithHint("tar -C DIRECTORY -czf - .")
		}
		return unpacked, nil
	}
	return nil, store.Problemf(store.CodeUsage, "an upload of type %.100q cannot be read: send application/x-tar or application/gzip", contentType)
}
