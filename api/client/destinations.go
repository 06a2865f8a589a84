package client

import (
	"context"
	"net/http"
	"net/url"

	"sojourn/api"
)

func destinationPath(name, action string) string {
	return "/api/v1/destinations/" + url.PathEscape(name) + action
}

// Destinations lists the destinations of deliveries, without their secrets.
func (c *Client) Destinations(ctx context.Context) ([]api.Destination, error) {
	var l struct {
		Destinations []api.Destination `json:"destinations"`
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/destinations", nil, &l)
	return l.Destinations, err
}

// Destination is one destination, without its secrets.
func (c *Client) Destination(ctx context.Context, name string) (api.Destination, error) {
	var d api.Destination
	err := c.call(ctx, http.MethodGet, destinationPath(name, ""), nil, &d)
	return d, err
}

// SaveDestination makes or changes a destination.
func (c *Client) SaveDestination(ctx context.Context, name string, b *api.DestinationBody) (api.DestinationSaved, error) {
	var d api.DestinationSaved
	err := c.call(ctx, http.MethodPut, destinationPath(name, ""), b, &d)
	return d, err
}

// RotateDestination replaces the secret of a destination.
func (c *Client) RotateDestination(ctx context.Context, name string, b *api.RotateBody) (api.DestinationSaved, error) {
	var d api.DestinationSaved
	err := c.call(ctx, http.MethodPost, destinationPath(name, "/rotate"), b, &d)
	return d, err
}

// EnableDestination lets deliveries go out again.
func (c *Client) EnableDestination(ctx context.Context, name string) (api.DestinationSaved, error) {
	var d api.DestinationSaved
	err := c.call(ctx, http.MethodPost, destinationPath(name, "/enable"), nil, &d)
	return d, err
}

// DisableDestination keeps deliveries back.
func (c *Client) DisableDestination(ctx context.Context, name, reason string) (api.DestinationSaved, error) {
	var d api.DestinationSaved
	err := c.call(ctx, http.MethodPost, destinationPath(name, "/disable"), map[string]string{"reason": reason}, &d)
	return d, err
}
