package main

import (
	"errors"

	"sojourn/automation/trigger"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/domain/policy"
)

// readTrigger reads the text of a trigger file; name is what errors call it, and
// names are the words it may use. Errors are *yamlfile.Error, several of them joined.
func readTrigger(name string, data []byte, names *trigger.Names) (trigger.Document, error) {
	var t trigger.Document
	d, err := yamlfile.Parse(name, data)
	if err != nil {
		return t, err
	}
	if err := d.Decode(&t); err != nil {
		return t, err
	}
	_, err = trigger.Compile(&t, names)
	var problems policy.Problems
	if errors.As(err, &problems) {
		var errs []error
		for _, pr := range problems {
			errs = append(errs, d.Errorf(pr.Path, "%s", message(pr)))
		}
		return t, errors.Join(errs...)
	}
	return t, err
}
