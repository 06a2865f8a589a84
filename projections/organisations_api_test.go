package projections_test

import (
	"net/http"

	"sojourn/api"
	"sojourn/projections"
)

func init() {
	projections.ServeAPI = func(v *projections.Views) (http.Handler, error) {
		return api.New(api.Config{Token: "t", Views: v, Maintenance: v})
	}
}
