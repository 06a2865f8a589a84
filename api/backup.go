package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// ErrNoBackup is found in the error of a server that cannot make a backup now,
// or ever; its text says why.
var ErrNoBackup = errors.New("no backup can be made")

// Backup is the log as it stood at an instant. It is written out once; Close
// gives up what was held for it.
type Backup interface {
	io.WriterTo
	io.Closer
}

const tarType = "application/x-tar"

// stalled is how long a client may take in nothing of a backup, which holds room
// on the server's disk.
const stalled = 90 * time.Second

func (a *API) backupOperations() {
	op := operation("backup", http.MethodGet, "/backup", "Maintenance", "Take a backup",
		"The log as it stands and the key that names its streams, as a tar file whose last entry, SHA256SUMS, has the checksums of all others; "+
			"without that entry it is not whole. Whoever has it can read everything. 409 where one is taken already, or the log is kept elsewhere.", 409)
	op.Metadata = map[string]any{unbounded: true}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A tar file",
		Content:     map[string]*huma.MediaType{tarType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *struct {
		WithSecretKey bool `query:"with_secret_key" doc:"Take in the key that encrypts the secrets of destinations, too."`
	},
	) (*huma.StreamResponse, error) {
		b, err := a.cfg.Backup(ctx, in.WithSecretKey)
		if errors.Is(err, ErrNoBackup) {
			return nil, huma.Error409Conflict(err.Error())
		}
		if err != nil {
			return nil, a.internal("take a backup", err)
		}
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			rc := http.NewResponseController(w)
			// What still sends when the server stops is cut off.
			defer context.AfterFunc(a.streams, func() { _ = rc.SetWriteDeadline(time.Now()) })()
			hctx.SetHeader("Content-Type", tarType)
			hctx.SetHeader("Cache-Control", "no-store")
			hctx.SetStatus(http.StatusOK)
			n, err := b.WriteTo(&patient{w: w, rc: rc, stopping: a.streams})
			if err := errors.Join(err, b.Close()); err != nil {
				a.cfg.Log.Error("api: a backup broke off", "bytes", n, "error", err)
				return
			}
			a.cfg.Log.Info("api: a backup was taken", "bytes", n)
		}}, nil
	})
}

// patient gives each write to a client time of its own.
type patient struct {
	w        io.Writer
	rc       *http.ResponseController
	stopping context.Context
}

func (p *patient) Write(b []byte) (int, error) {
	// A test's recorder knows no deadlines.
	_ = p.rc.SetWriteDeadline(time.Now().Add(stalled))
	if err := p.stopping.Err(); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}
