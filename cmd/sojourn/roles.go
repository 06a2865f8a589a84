package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"sojourn/domain/policy"
)

// The roles of a server.
const (
	roleCollect  = "collect"  // tracking calls into Kafka
	roleWrite    = "write"    // Kafka, and tracking calls without a collector, into the log
	roleProject  = "project"  // the log into the views
	roleAPI      = "api"      // questions
	roleAutomate = "automate" // what happens when a customer changes
)

var allRoles = []string{roleCollect, roleWrite, roleProject, roleAPI, roleAutomate}

// roles are what a server does, as --roles says it: names with commas between.
type roles string

var _ pflag.Value = (*roles)(nil)

// defaultRoles are all but collect.
var defaultRoles = roles(strings.Join(allRoles[1:], ","))

func (r roles) list() []string {
	list := strings.Split(string(r), ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

func (r roles) has(role string) bool { return slices.Contains(r.list(), role) }

// only reports whether a role is the only one.
func (r roles) only(role string) bool { return slices.Equal(r.list(), []string{role}) }

// String is the roles with commas between.
func (r roles) String() string { return string(r) }

// Type is shown by --help.
func (r roles) Type() string { return "roles" }

// Set takes roles with commas between; Validate says what is wrong with them.
func (r *roles) Set(s string) error {
	*r = roles(s)
	return nil
}

func (r roles) validate() error {
	list := r.list()
	for i, role := range list {
		if !slices.Contains(allRoles, role) {
			if near, ok := policy.Nearest(role, allRoles); ok {
				return fmt.Errorf("%q is no role; did you mean %s?", role, near)
			}
			return fmt.Errorf("%q is no role; they are %s", role, strings.Join(allRoles, ", "))
		}
		if slices.Contains(list[:i], role) {
			return fmt.Errorf("%s stands there twice", role)
		}
	}
	return nil
}
