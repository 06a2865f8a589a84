package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// TokenFile is the name of the file in the data directory that keeps the admin
// token.
const TokenFile = "admin-token"

// LoadToken reads the admin token from the data directory and makes one where
// there is none: 256 random bits, in a file that only its owner can read (mode
// 0600). made tells that it was made now.
func LoadToken(dir string) (token string, made bool, err error) {
	token, err = ReadToken(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, false, err
	}
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", false, err
	}
	token = "sjt_" + base64.RawURLEncoding.EncodeToString(b[:])
	path := filepath.Join(dir, TokenFile)
	tmp, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", false, fmt.Errorf("keep the admin token: %w", err)
	}
	_, err = tmp.WriteString(token + "\n")
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return "", false, fmt.Errorf("keep the admin token: %w", err)
	}
	return token, true, nil
}

// ReadToken reads the admin token from the data directory. The error is
// fs.ErrNotExist where the server has not run there yet.
func ReadToken(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, TokenFile))
	if err != nil {
		return "", fmt.Errorf("read the admin token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("read the admin token: %s is empty; delete it and start the server to make another", filepath.Join(dir, TokenFile))
	}
	return token, nil
}

// authenticate asks for the admin token under /api/. What is public says so by
// its path.
func (a *API) authenticate(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(a.cfg.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/api" {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			got := sha256.Sum256([]byte(strings.TrimSpace(token)))
			if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="sojourn"`)
				writeProblem(w, http.StatusUnauthorized, "the admin token is missing or wrong; send it as Authorization: Bearer TOKEN")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
