package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sojourn/ingest"
)

type writeKeyBody struct {
	ID        string     `json:"id" doc:"Names the key; it is not the key."`
	Source    string     `json:"source"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

func writeKeyOf(k ingest.KeyInfo) writeKeyBody {
	b := writeKeyBody{ID: k.ID, Source: k.Source, CreatedAt: k.CreatedAt.UTC()}
	if !k.RevokedAt.IsZero() {
		t := k.RevokedAt.UTC()
		b.RevokedAt = &t
	}
	return b
}

func (a *API) writeKeyOperations() {
	const tag = "Write keys"

	type newWriteKeyOutput struct {
		Body struct {
			ID       string `json:"id" doc:"Names the key in the list and when it is revoked."`
			Source   string `json:"source"`
			WriteKey string `json:"write_key" doc:"The key itself. It is shown this once; only a hash is kept."`
		}
	}
	create := operation("create-write-key", http.MethodPost, "/write-keys", tag,
		"Make a write key", "Makes a key with which a source may send touchpoints.", 429, 503)
	create.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, create, func(ctx context.Context, in *struct {
		Body struct {
			Source string `json:"source" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]*$" doc:"The app or system that will send: letters, digits, dots, dashes and underscores."`
		}
	},
	) (*newWriteKeyOutput, error) {
		key, k, err := a.cfg.WriteKeys.Create(ctx, in.Body.Source)
		if errors.Is(err, ingest.ErrSourceName) {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		if err != nil {
			return nil, a.internal("make the write key", err)
		}
		out := &newWriteKeyOutput{}
		out.Body.ID, out.Body.Source, out.Body.WriteKey = k.ID, k.Source, key
		return out, nil
	})

	type writeKeysOutput struct {
		Body struct {
			WriteKeys []writeKeyBody `json:"write_keys"`
		}
	}
	huma.Register(a.huma, operation("list-write-keys", http.MethodGet, "/write-keys", tag,
		"List write keys", "All keys by source, the revoked ones too; never the keys themselves.", 503),
		func(ctx context.Context, in *struct{ AfterParam }) (*writeKeysOutput, error) {
			if err := a.reach(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			ks := a.cfg.WriteKeys.List()
			out := &writeKeysOutput{}
			out.Body.WriteKeys = make([]writeKeyBody, 0, len(ks))
			for _, k := range ks {
				out.Body.WriteKeys = append(out.Body.WriteKeys, writeKeyOf(k))
			}
			return out, nil
		})

	huma.Register(a.huma, operation("revoke-write-key", http.MethodDelete, "/write-keys/{id}", tag,
		"Revoke a write key", "Puts a key out of force for good. What was sent with it stays. In place of an id, a source stands for all its keys.", 404, 429, 503),
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"128" doc:"The id of the key as in the list, or the source."`
		},
		) (*struct{}, error) {
			_, err := a.cfg.WriteKeys.Revoke(ctx, in.ID)
			if errors.Is(err, ingest.ErrNoSuchKey) {
				return nil, huma.Error404NotFound("there is no write key in force with that id")
			}
			if err != nil {
				return nil, a.internal("revoke the write key", err)
			}
			return nil, nil
		})
}
