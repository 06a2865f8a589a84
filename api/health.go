package api

import (
	"context"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

type readyBody struct {
	Ready         bool   `json:"ready" doc:"The views answer."`
	LagEvents     uint64 `json:"lag_events" doc:"Events that the slowest projection has yet to read."`
	Position      uint64 `json:"position" doc:"What the views have read."`
	PolicyVersion int    `json:"policy_version"`
	Building      bool   `json:"building" doc:"New views are being built beside those that answer."`
	Error         string `json:"error,omitempty" doc:"What holds the projections up."`
}

func (a *API) healthOperations() {
	const tag = "Health"
	type healthOutput struct {
		Body struct {
			Status string `json:"status" enum:"ok"`
		}
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: "healthz", Method: http.MethodGet, Path: "/healthz", Tags: []string{tag},
		Summary: "The process runs", Security: []map[string][]string{},
	}, func(context.Context, *struct{}) (*healthOutput, error) {
		out := &healthOutput{}
		out.Body.Status = "ok"
		return out, nil
	})

	type readyOutput struct {
		Status int
		Body   readyBody
	}
	ready := huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: "/readyz", Tags: []string{tag},
		Summary: "The views answer", Description: "200 when they do, else 503; the body is the same.",
		Responses: map[string]*huma.Response{"503": {
			Description: "Not ready",
			Content: map[string]*huma.MediaType{"application/json": {
				Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[readyBody](), true, "ReadyBody"),
			}},
		}},
	}
	huma.Register(a.huma, ready, func(context.Context, *struct{}) (*readyOutput, error) {
		s := a.cfg.Views.Status()
		out := &readyOutput{Status: http.StatusOK, Body: readyBody{
			Ready: s.Ready, LagEvents: s.LagEvents, Position: uint64(s.Position),
			PolicyVersion: s.PolicyVersion, Building: s.Building != 0, Error: s.Err,
		}}
		if !s.Ready {
			out.Status = http.StatusServiceUnavailable
		}
		return out, nil
	})
}

var docsPage = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sojourn API</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code{background:#f3f3f3;padding:.1em .3em}dt{margin-top:1.2rem;font-weight:600}dd{margin-left:1.5rem}</style>
<h1>Sojourn API</h1>
<p>Everything under <code>/api/v1</code> asks for <code>Authorization: Bearer TOKEN</code>.
The whole description is at <a href="/openapi.json">/openapi.json</a>.</p>
{{range .}}<dl><dt><code>{{.Method}} {{.Path}}</code> {{.Summary}}</dt><dd>{{.Description}}{{if .Params}}<ul>
{{range .Params}}<li><code>{{.Name}}</code> {{.Description}}</li>{{end}}</ul>{{end}}</dd></dl>
{{end}}</html>
`))

// docs is the API on one page, made of the OpenAPI document; it loads nothing.
func (a *API) docs(w http.ResponseWriter, _ *http.Request) {
	type operation struct {
		Method, Path, Summary, Description string
		Params                             []*huma.Param
	}
	var ops []operation
	for path, item := range a.huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Delete} {
			if op != nil {
				ops = append(ops, operation{op.Method, path, op.Summary, op.Description, op.Parameters})
			}
		}
	}
	slices.SortFunc(ops, func(x, y operation) int {
		return strings.Compare(x.Path+" "+x.Method, y.Path+" "+y.Method)
	})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	// A client that has gone cannot be told.
	_ = docsPage.Execute(w, ops)
}
