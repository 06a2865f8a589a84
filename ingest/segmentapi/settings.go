package segmentapi

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"sojourn/ingest"
)

// settingsKey reads the write key from the path of a settings endpoint.
func settingsKey(path string) (string, bool) {
	path = strings.TrimPrefix(path, "/v1")
	path, ok := strings.CutPrefix(path, "/projects/")
	if !ok {
		return "", false
	}
	key, ok := strings.CutSuffix(path, "/settings")
	return key, ok && key != "" && !strings.Contains(key, "/")
}

// settingsAnswer is what SDKs ask for before they send: where to send. They put
// protocol://apiHost before /t, /b and so on. No destination runs in the SDK, and
// it sends no statistics of its own.
type settingsAnswer struct {
	Integrations              map[string]segmentIO `json:"integrations"`
	Plan                      map[string]any       `json:"plan"`
	EdgeFunction              map[string]any       `json:"edgeFunction"`
	AnalyticsNextEnabled      bool                 `json:"analyticsNextEnabled"`
	MiddlewareSettings        map[string]any       `json:"middlewareSettings"`
	EnabledMiddleware         map[string]any       `json:"enabledMiddleware"`
	Metrics                   metricsSettings      `json:"metrics"`
	LegacyVideoPluginsEnabled bool                 `json:"legacyVideoPluginsEnabled"`
	RemotePlugins             []any                `json:"remotePlugins"`
}

type segmentIO struct {
	APIKey              string         `json:"apiKey"`
	APIHost             string         `json:"apiHost"`
	Protocol            string         `json:"protocol"`
	AddBundledMetadata  bool           `json:"addBundledMetadata"`
	Unbundled           []any          `json:"unbundledIntegrations"`
	MaybeBundledConfigs map[string]any `json:"maybeBundledConfigIds"`
	RetryQueue          bool           `json:"retryQueue"`
	VersionSettings     map[string]any `json:"versionSettings"`
}

type metricsSettings struct {
	SampleRate float64 `json:"sampleRate"`
	Host       string  `json:"host"`
	Protocol   string  `json:"protocol"`
}

func (h *Handler) settings(w http.ResponseWriter, r *http.Request, _ endpoint) {
	if !h.allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	key, _ := settingsKey(strings.TrimSuffix(r.URL.Path, "/"))
	if _, err := h.keys.Source(key); errors.Is(err, ingest.ErrNoSuchKey) {
		h.refuse(w, r, refusal{status: http.StatusNotFound, code: "unknown_project", message: errWrongKey.message})
		return
	} else if err != nil {
		h.fail(w, r, err)
		return
	}
	host, protocol := h.address(r)
	none := map[string]any{}
	body, err := json.Marshal(settingsAnswer{
		Integrations: map[string]segmentIO{"Segment.io": {
			APIKey: key, APIHost: host, Protocol: protocol, AddBundledMetadata: true,
			Unbundled: []any{}, MaybeBundledConfigs: none, RetryQueue: true,
			VersionSettings: map[string]any{"version": "4.4.7", "componentTypes": []string{"browser"}},
		}},
		Plan: none, EdgeFunction: none,
		MiddlewareSettings: none, EnabledMiddleware: none,
		AnalyticsNextEnabled: true,
		Metrics:              metricsSettings{SampleRate: 0, Host: host, Protocol: protocol},
		RemotePlugins:        []any{},
	})
	if err != nil {
		h.logger.LogAttrs(r.Context(), slog.LevelError, "settings not written", slog.Any("error", err))
		h.refuse(w, r, errUnavailable)
		return
	}
	header := w.Header()
	header["Content-Type"] = contentJSON
	header.Set("Cache-Control", "no-cache")
	_, _ = w.Write(body) // as in succeed
}

// address is where this server is reached: apiHost with the path of the API's
// version, as the SDKs expect it, and the protocol.
func (h *Handler) address(r *http.Request) (apiHost, protocol string) {
	if h.public != nil {
		return h.public.Host + strings.TrimSuffix(h.public.Path, "/") + "/v1", h.public.Scheme
	}
	if r.TLS != nil {
		return r.Host + "/v1", "https"
	}
	return r.Host + "/v1", "http"
}
