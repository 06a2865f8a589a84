package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sojourn/automation"
	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/esdbserver"
	"sojourn/eventstore/esdbstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/internal/durable"
)

// eventLog is the log as a server needs it, wherever it is kept.
type eventLog interface {
	eventstore.Store
	eventstore.IDIndex
}

// Files of the data directory that have to do with EventStoreDB.
const (
	workerTokenFile = "worker-token" // the password of the user worker
	idIndexDir      = "event-ids"    // the index of a log that is kept elsewhere
)

// openStore opens the log: the one in the data directory, or the one that the
// configuration names. A directory is used for one of them, ever.
func (d *dataDir) openStore(ctx context.Context, c *Config, log *slog.Logger) (eventLog, error) {
	local, index := filepath.Join(d.path, logDir), filepath.Join(d.path, idIndexDir)
	if c.Store == "" {
		if _, err := os.Stat(index); err == nil {
			return nil, fmt.Errorf("the log of %s is in EventStoreDB: say where with --store (%s), or choose another directory with --data", d.path, envName("store"))
		}
		s, err := pebblestore.Open(local, pebblestore.Options{Logger: log})
		if err != nil {
			return nil, err
		}
		return asRecorded(ctx, s)
	}
	if _, err := os.Stat(local); err == nil {
		return nil, fmt.Errorf("%s holds a log of its own: choose another directory with --data, or leave --store out", d.path)
	}
	s, err := esdbstore.Open(ctx, esdbstore.Config{Connection: c.Store, Dir: index, Logger: log})
	if err != nil {
		return nil, err
	}
	return asRecorded(ctx, s)
}

// validateESDB checks the settings that have to do with EventStoreDB.
func (c *Config) validateESDB(bad func(setting, format string, args ...any)) {
	if c.Store != "" {
		// The string may hold a password and is not repeated.
		if scheme, rest, _ := strings.Cut(c.Store, "://"); scheme != "esdb" && scheme != "esdb+discover" || rest == "" {
			bad("store", "this is no connection string such as esdb://user:password@host:2113")
		}
	}
	if c.ESDBListen == "" {
		if c.ESDBInsecure || c.ESDBWritable {
			bad("esdb-insecure", "it says how --esdb-listen listens, which is not given")
		}
		return
	}
	host, err := splitAddress(c.ESDBListen)
	switch {
	case err != nil:
		bad("esdb-listen", "%w", err)
	case c.ESDBInsecure && !loopback(host):
		bad("esdb-insecure", "%s can be reached from the network: without TLS clients send no credentials, so listen on 127.0.0.1 or give tls-cert and tls-key", c.ESDBListen)
	case !c.ESDBInsecure && c.TLSCert == "":
		bad("esdb-listen", "give tls-cert and tls-key, or esdb-insecure on 127.0.0.1, where everybody on this machine then reads everything")
	case c.ESDBWritable && !c.ESDBInsecure:
		bad("esdb-writable", "it goes with esdb-insecure; over TLS the user worker writes, with the token in DATA/%s", workerTokenFile)
	}
}

// kindsOfStreams are the first words of the streams that Sojourn keeps for each
// customer or entry, whose id follows.
var kindsOfStreams = []string{"statements", "loyalty", "feedback", "automation", "payloads"}

// ownStream says whether a stream is one that Sojourn writes: a subject's, a
// customer's, or one of bookkeeping, whose names are words of lower-case letters
// and underscores.
func ownStream(stream string) bool {
	if _, ok := domain.SubjectStream(stream); ok {
		return true
	}
	if kind, id, ok := strings.Cut(stream, "-"); ok && slices.Contains(kindsOfStreams, kind) {
		return uuid.Validate(id) == nil
	}
	return domain.IsWorkerStream(stream) || automation.IsCauseStream(stream) || stream != "" && strings.Trim(stream, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// newESDBServer makes the server of EventStoreDB's protocol.
func (d *dataDir) newESDBServer(c *Config, store eventstore.Store, adminToken string, certificate *tls.Certificate, log *slog.Logger) (*esdbserver.Server, error) {
	ec := esdbserver.Config{Store: store, Own: ownStream, Logger: log}
	if c.ESDBInsecure {
		everybody := esdbserver.Outside
		if c.ESDBWritable {
			everybody = esdbserver.Worker
		}
		ec.Authorize = func(string, string) esdbserver.Access { return everybody }
		return esdbserver.New(ec)
	}
	workerToken, err := d.workerToken()
	if err != nil {
		return nil, err
	}
	ec.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
	ec.Authorize = func(user, password string) esdbserver.Access {
		switch {
		case user == "worker" && same(password, workerToken):
			return esdbserver.Worker
		case same(password, adminToken):
			return esdbserver.Outside
		}
		return esdbserver.Denied
	}
	return esdbserver.New(ec)
}

// same compares secrets in a time that tells nothing of them.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// workerToken reads the token of Sojourn's own processes, and makes it at the
// first start.
func (d *dataDir) workerToken() (string, error) {
	path := filepath.Join(d.path, workerTokenFile)
	b, err := os.ReadFile(path)
	if err == nil {
		token := strings.TrimSpace(string(b))
		if token == "" {
			return "", fmt.Errorf("%s is empty; delete it and start the server to make another", path)
		}
		return token, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the worker token: %w", err)
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	token := "sjw_" + base64.RawURLEncoding.EncodeToString(secret)
	if err := durable.WriteFile(path, []byte(token+"\n")); err != nil {
		return "", fmt.Errorf("keep the worker token: %w", err)
	}
	return token, nil
}

// esdbURL is the connection string of the server of EventStoreDB's protocol for
// programs on this machine.
func esdbURL(c Config, addr net.Addr) string {
	u := url.URL{Scheme: "esdb", Host: reachable(addr.String())}
	if c.ESDBInsecure {
		u.RawQuery = "tls=false"
	}
	return u.String()
}
