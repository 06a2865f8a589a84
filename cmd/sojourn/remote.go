package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/pflag"

	"sojourn/api"
	"sojourn/api/client"
)

// remote is how a command finds the server it speaks to.
type remote struct {
	server string
	token  string
	data   string
}

func (r *remote) flags(fs *pflag.FlagSet) {
	fs.StringVar(&r.server, "server", "", "`URL` of the server; the one that runs on --data, else http://127.0.0.1:8080")
	fs.StringVar(&r.token, "token", "", "admin `token`; SOJOURN_ADMIN_TOKEN, else the one kept in --data")
	fs.StringVar(&r.data, "data", envOr("SOJOURN_DATA", defaultConfig().Data), "data `directory` of a server on this machine")
}

func envOr(name, other string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return other
}

// client finds the server and the token. A command that needs no token takes
// what there is.
func (r *remote) client(needToken bool) (*client.Client, error) {
	server := r.server
	if server == "" {
		server = os.Getenv("SOJOURN_SERVER")
	}
	if server == "" {
		server = "http://127.0.0.1:8080"
		if h, err := readHolder(r.data); err == nil && h.URL != "" {
			server = h.URL
		}
	}
	token := r.token
	if token == "" {
		token = os.Getenv("SOJOURN_ADMIN_TOKEN")
	}
	if token == "" {
		var err error
		token, err = api.ReadToken(r.data)
		if err != nil && needToken {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("there is no admin token in %s; name the server's data directory with --data, or give the token with --token or SOJOURN_ADMIN_TOKEN", r.data)
			}
			return nil, err
		}
	}
	return client.New(server, token)
}

// writeKey is the one given, else one made for a source, which done puts out of
// force again when the sending is over.
func writeKey(ctx context.Context, r *remote, given, source string, errOut io.Writer) (c *client.Client, key string, done func(), err error) {
	if given == "" {
		given = os.Getenv("SOJOURN_WRITE_KEY")
	}
	if c, err = r.client(given == ""); err != nil {
		return nil, "", nil, err
	}
	if given != "" {
		return c, given, func() {}, nil
	}
	k, err := c.CreateWriteKey(ctx, source)
	if err != nil {
		return nil, "", nil, fmt.Errorf("make a write key: %w", err)
	}
	return c, k.WriteKey, func() {
		// Also where the user has interrupted the sending.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := c.RevokeWriteKey(ctx, k.ID); err != nil {
			// A terminal that has gone cannot be told.
			_, _ = fmt.Fprintf(errOut, "the write key of this run is still in force (%s); revoke it with: sojourn keys revoke %s\n", explain(err), k.ID)
		}
	}, nil
}
