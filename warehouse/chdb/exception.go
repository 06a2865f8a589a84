package chdb

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Exception is an error of the engine.
type Exception struct {
	Code    int
	Message string
}

func (e *Exception) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s", e.Code, e.Message)
}

var codePrefix = regexp.MustCompile(`^(?:Error: )?Code: (\d+)\. (?:DB::Exception: )?`)

// parseException reads the engine's text, which may be wrapped several times.
func parseException(text string) *Exception {
	e := &Exception{Code: 1001, Message: strings.TrimSpace(text)}
	for {
		m := codePrefix.FindStringSubmatch(e.Message)
		if m == nil {
			return e
		}
		if n, err := strconv.Atoi(m[1]); err == nil {
			e.Code = n
		}
		e.Message = strings.TrimSpace(e.Message[len(m[0]):])
	}
}
