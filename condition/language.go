package condition

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// The language as CEL's checker is told of it. Nothing of CEL's own library is
// taken but what stands here, so what is not in the subset is undeclared.

var (
	touchpointsType = types.NewOpaqueType("touchpoints")
	traitsType      = types.NewMapType(types.StringType, types.DynType)
)

// eventFields are the fields of an event that are text.
var eventFields = map[string]func(*Event) string{
	"event.type":      func(e *Event) string { return e.Type },
	"event.name":      func(e *Event) string { return e.Name },
	"event.meaning":   func(e *Event) string { return e.Meaning },
	"event.channel":   func(e *Event) string { return e.Channel },
	"event.source":    func(e *Event) string { return e.Source },
	"event.currency":  func(e *Event) string { return e.Currency },
	"event.from":      func(e *Event) string { return e.From },
	"event.to":        func(e *Event) string { return e.To },
	"event.programme": func(e *Event) string { return e.Programme },
}

func overload(name string, result *types.Type, args ...*types.Type) cel.FunctionOpt {
	for _, a := range args {
		name += "_" + strings.Trim(regexp.MustCompile(`[^a-z]+`).ReplaceAllString(a.String(), "_"), "_")
	}
	return cel.Overload(name, args, result)
}

func member(name string, result *types.Type, args ...*types.Type) cel.FunctionOpt {
	return cel.MemberOverload(name, args, result)
}

// celEnv is made twice: with the event's variables and without.
func celEnv(event bool) (*cel.Env, error) {
	var (
		text, whole, dec = types.StringType, types.IntType, types.DoubleType
		boolean, dyn     = types.BoolType, types.DynType
		instant, length  = types.TimestampType, types.DurationType
	)
	compared := [][2]*types.Type{
		{text, text}, {whole, whole}, {whole, dec}, {dec, whole}, {dec, dec}, {instant, instant}, {length, length},
	}
	order := func(function, name string) cel.EnvOption {
		var all []cel.FunctionOpt
		for _, c := range compared {
			all = append(all, overload(name, boolean, c[0], c[1]))
		}
		if function == operators.Equals || function == operators.NotEquals {
			all = append(all, overload(name, boolean, boolean, boolean))
		}
		return cel.Function(function, all...)
	}
	sum := func(function, name string) cel.EnvOption {
		return cel.Function(function, overload(name, whole, whole, whole), overload(name, dec, dec, dec), overload(name, dec, whole, dec), overload(name, dec, dec, whole))
	}
	timed := func(name string, result *types.Type, more ...*types.Type) cel.EnvOption {
		args := append([]*types.Type{touchpointsType}, more...)
		return cel.Function(name, overload(name, result, args...), overload(name+"_within", result, append(args, length)...))
	}
	options := []cel.EnvOption{
		cel.Macros(cel.HasMacro),
		cel.ParserRecursionLimit(100), cel.ParserExpressionSizeLimit(10_000),

		cel.Variable("stage", text), cel.Variable("stage_since", instant), cel.Variable("first_seen", instant),
		cel.Variable("satisfaction", text), cel.Variable("satisfaction_since", instant),
		cel.Variable("satisfaction_index", dec), cel.Variable("open_complaints", whole),
		cel.Variable("traits", traitsType),

		cel.Function("tier", overload("tier", text, text)),
		cel.Function("tier_since", overload("tier_since", instant, text)),
		cel.Function("points", overload("points", whole, text)),
		cel.Function("expiring", overload("expiring", whole, text, length)),
		cel.Function("in_account", overload("in_account", boolean, text)),
		cel.Function("in_segment", overload("in_segment", boolean, text)),
		cel.Function("named", overload("named", touchpointsType, text)),
		cel.Function("meaning", overload("meaning", touchpointsType, text)),
		timed("count", whole), timed("sum", dec, text), timed("first", instant), timed("last", instant),
		cel.Function("since", overload("since", length, instant)),
		cel.Function("duration", overload("duration", length, text)),
		cel.Function("timestamp", overload("timestamp", instant, text)),
		cel.Function("size", overload("size", whole, text), member("string_size", whole, text)),
		cel.Function("contains", member("contains", boolean, text, text)),
		cel.Function("startsWith", member("starts_with", boolean, text, text)),
		cel.Function("endsWith", member("ends_with", boolean, text, text)),

		cel.Function(operators.LogicalAnd, overload("and", boolean, boolean, boolean)),
		cel.Function(operators.LogicalOr, overload("or", boolean, boolean, boolean)),
		cel.Function(operators.LogicalNot, overload("not", boolean, boolean)),
		order(operators.Equals, "equals"), order(operators.NotEquals, "not_equals"),
		order(operators.Less, "less"), order(operators.LessEquals, "less_equals"),
		order(operators.Greater, "greater"), order(operators.GreaterEquals, "greater_equals"),
		sum(operators.Add, "add"), sum(operators.Subtract, "subtract"),
		// What stands in the list is checked against what stands before it by the walker.
		cel.Function(operators.In, overload("in", boolean, dyn, types.NewListType(dyn))),
		cel.Function(operators.Index, overload("index", dyn, traitsType, text)),
	}
	if event {
		for name := range eventFields {
			options = append(options, cel.Variable(name, text))
		}
		options = append(options, cel.Variable("event.amount", dec), cel.Variable("event.properties", traitsType))
	}
	return cel.NewCustomEnv(options...)
}

var (
	overloadError   = regexp.MustCompile(`^found no matching overload for '([^']+)' applied to '(.*)'$`)
	undeclaredError = regexp.MustCompile(`^undeclared reference to '([^']+)'`)
)

// explain puts what CEL's checker says in our words; event says whether it was told of
// an event's fields.
func explain(message string, event bool) string {
	symbol := func(name string) string {
		if s, ok := operators.FindReverse(name); ok && s != "" {
			return s
		}
		return map[string]string{operators.Index: "[]", operators.Conditional: "? :", operators.Negate: "-"}[name]
	}
	if m := overloadError.FindStringSubmatch(message); m != nil {
		name := m[1]
		if s := symbol(name); s != "" {
			name = s
		}
		return name + " does not take " + m[2]
	}
	if m := undeclaredError.FindStringSubmatch(message); m != nil {
		if s := symbol(m[1]); s != "" {
			return s + " is not part of the language of conditions"
		}
		if m[1] == "event" {
			if !event {
				return "there is no event to ask about but in a trigger's where"
			}
			fields := append(slices.Collect(maps.Keys(eventFields)), "event.amount", "event.properties.…")
			slices.Sort(fields)
			return "there is no such field of the event; there are " + strings.Join(fields, ", ")
		}
		return "there is no " + m[1] + " in the language of conditions"
	}
	return message
}
