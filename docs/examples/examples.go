// Package examples holds the files that the documents show, for the commands that
// put them to use.
package examples

import "embed"

// Automation are the worked triggers of docs/automation.md and the destinations that
// they name, in the folder automation.
//
//go:embed automation/*.yaml
var Automation embed.FS
