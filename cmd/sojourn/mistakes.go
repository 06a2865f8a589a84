package main

import (
	"errors"
	"fmt"

	"sojourn/api/client"
	"sojourn/cmd/sojourn/yamlfile"
)

// mistakesIn says what a server finds wrong with a file as validate says it: a line for
// each mistake, with its place. Other errors stay as they are.
func mistakesIn(file string, err error) error {
	return mistakes(err, "body.source", func(line, column int, message string) error {
		return &yamlfile.Error{File: file, Line: line, Column: column, Message: message}
	})
}

// mistakes are those that a server finds in a text which is a part of a request; at makes
// one of them. An error about anything else stays as it is.
func mistakes(err error, part string, at func(line, column int, message string) error) error {
	var status *client.StatusError
	if !errors.As(err, &status) || len(status.Problems) == 0 {
		return err
	}
	var all []error
	for _, p := range status.Problems {
		var line, column int
		if n, _ := fmt.Sscanf(p.Location, part+":%d:%d", &line, &column); n != 2 {
			return err
		}
		all = append(all, at(line, column, p.Message))
	}
	return errors.Join(all...)
}
