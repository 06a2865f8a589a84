package condition

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sojourn/domain"
)

// SQL renders the condition as a query over the public tables that gives the
// customer_id of each member, in ClickHouse's SQL. The instant is that of the views'
// clock: tables of what stands now know no other. A condition about an event has no
// SQL.
func (c *Condition) SQL(at domain.Millis) (string, error) {
	if c.needs.Event {
		return "", errors.New("a condition about an event has no SQL")
	}
	q := query{at: at, sources: map[string]string{}}
	where := q.expr(c.root)
	var b strings.Builder
	b.WriteString("SELECT c.customer_id AS customer_id\nFROM customers AS c")
	for _, join := range q.joins {
		b.WriteString("\nLEFT JOIN " + join)
	}
	if len(q.columns) > 0 {
		fmt.Fprintf(&b, "\nLEFT JOIN (\n    SELECT customer_id, %s\n    FROM touchpoints WHERE occurred_at <= %s AND (%s) GROUP BY customer_id\n) AS t ON t.customer_id = c.customer_id",
			strings.Join(q.columns, ",\n        "), instantSQL(at), strings.Join(q.chosen, " OR "))
	}
	fmt.Fprintf(&b, "\nWHERE c.first_seen <= %s AND %s", instantSQL(at), where)
	return b.String(), nil
}

// query gathers what a condition joins to customers.
type query struct {
	at      domain.Millis
	sources map[string]string // by what is joined or computed: its alias
	joins   []string
	// Of touchpoints: the columns, and the conditions one of which a row must meet.
	columns, chosen []string
}

// join joins a subquery of one row at most for each customer, and gives its alias.
func (q *query) join(subquery string) string {
	alias, ok := q.sources[subquery]
	if !ok {
		alias = "j" + strconv.Itoa(len(q.joins)+1)
		q.sources[subquery] = alias
		q.joins = append(q.joins, "("+subquery+") AS "+alias+" ON "+alias+".customer_id = c.customer_id")
	}
	return alias
}

func (q *query) satisfaction() string {
	return q.join("SELECT customer_id, toString(status) AS status, since, satisfaction_index, toInt64(open_complaints) AS open_complaints FROM satisfaction")
}

func (q *query) loyalty(programme string) string {
	return q.join("SELECT customer_id, nullIf(toString(tier), '') AS tier, tier_since, toNullable(available) AS available FROM loyalty_status WHERE programme = " + quote(programme))
}

// expiring sums the lines of the lots that expire within the window: what is left of
// them. A lot that has expired has lines that come to nothing.
func (q *query) expiring(n *node) string {
	return q.join("SELECT customer_id, sum(available + pending) AS expiring FROM loyalty_ledger WHERE programme = " + quote(n.text) +
		" AND expires_at <= " + instantSQL(min(q.at+n.window, domain.MaxTime)) + " GROUP BY customer_id")
}

// touchpoints adds an aggregate over the touchpoints of a node, and gives its column.
func (q *query) touchpoints(n *node, format string) string {
	which := "name = " + quote(n.sel.Name)
	if n.sel.Meaning != "" {
		which = "meaning = " + quote(n.sel.Meaning)
	}
	if _, ok := q.sources[which]; !ok {
		q.sources[which] = ""
		q.chosen = append(q.chosen, which)
	}
	if n.window != 0 {
		which += " AND occurred_at > " + instantSQL(q.at-n.window)
	}
	column := fmt.Sprintf(format, which)
	alias, ok := q.sources[column]
	if !ok {
		alias = "a" + strconv.Itoa(len(q.columns)+1)
		q.sources[column] = alias
		q.columns = append(q.columns, column+" AS "+alias)
	}
	return "t." + alias
}

func (q *query) expr(n *node) string {
	switch n.op {
	case opConst:
		return constSQL(n)
	case opAnd:
		return "(" + q.expr(n.args[0]) + " AND " + q.expr(n.args[1]) + ")"
	case opOr:
		return "(" + q.expr(n.args[0]) + " OR " + q.expr(n.args[1]) + ")"
	case opNot:
		return "(NOT " + q.expr(n.args[0]) + ")"
	case opHas:
		return "(JSONType(c.traits" + pathSQL(n.path) + ") != 'Null')"
	case opJSON:
		return jsonSQL(n)
	case opContains:
		return "(position(" + q.expr(n.args[0]) + ", " + q.expr(n.args[1]) + ") > 0)"
	case opStartsWith:
		return "startsWith(" + q.expr(n.args[0]) + ", " + q.expr(n.args[1]) + ")"
	case opEndsWith:
		return "endsWith(" + q.expr(n.args[0]) + ", " + q.expr(n.args[1]) + ")"
	case opSize:
		return "toDecimal128(lengthUTF8(" + q.expr(n.args[0]) + "), 4)"
	case opAdd:
		return "(" + q.expr(n.args[0]) + " + " + q.expr(n.args[1]) + ")"
	case opSubtract:
		return "(" + q.expr(n.args[0]) + " - " + q.expr(n.args[1]) + ")"
	case opIn:
		left := q.expr(n.args[0])
		var any []string
		for _, value := range n.args[1:] {
			any = append(any, left+" = "+constSQL(value))
		}
		return "(" + strings.Join(any, " OR ") + ")"
	case opCompare:
		a, b := n.args[0], n.args[1]
		if a.kind == kindDuration {
			// t − x ≥ d is x ≤ t − d.
			return "(" + q.expr(a.args[0]) + comparisonSQL[n.compare.turned()] + instantSQL(q.at-b.at) + ")"
		}
		return "(" + q.expr(a) + comparisonSQL[n.compare] + q.expr(b) + ")"
	case opStage:
		return "toString(c.stage)"
	case opStageSince:
		return "c.stage_since"
	case opFirstSeen:
		return "c.first_seen"
	case opStatus:
		return "ifNull(nullIf(" + q.satisfaction() + ".status, ''), 'unknown')"
	case opStatusSince:
		return q.satisfaction() + ".since"
	case opIndex:
		return q.satisfaction() + ".satisfaction_index"
	case opComplaints:
		return "toDecimal128(ifNull(" + q.satisfaction() + ".open_complaints, 0), 4)"
	case opTier:
		return q.loyalty(n.text) + ".tier"
	case opTierSince:
		return q.loyalty(n.text) + ".tier_since"
	case opPoints:
		return "toDecimal128(" + q.loyalty(n.text) + ".available, 4)"
	case opExpiring:
		return "toDecimal128(ifNull(" + q.expiring(n) + ".expiring, 0), 4)"
	case opInAccount:
		return "(ifNull(" + q.join("SELECT DISTINCT m.customer_id AS customer_id, 1 AS present FROM account_members AS m JOIN accounts AS a ON a.account_id = m.account_id WHERE a.group_id = "+
			quote(n.text)+" AND m.since <= "+instantSQL(q.at)) + ".present, 0) = 1)"
	case opInSegment:
		return "(ifNull(" + q.join("SELECT customer_id, 1 AS present FROM segment_members WHERE segment = "+quote(n.text)) + ".present, 0) = 1)"
	case opCount:
		return "toDecimal128(ifNull(" + q.touchpoints(n, "countIf(%s)") + ", 0), 4)"
	case opSum:
		return "ifNull(" + q.touchpoints(n, "sumIf(ifNull(toDecimal128(amount, 4), 0), %s AND currency = "+strings.ReplaceAll(quote(n.text), "%", "%%")+")") + ", toDecimal128(0, 4))"
	case opFirst:
		return q.touchpoints(n, "minOrNullIf(occurred_at, %s)")
	case opLast:
		return q.touchpoints(n, "maxOrNullIf(occurred_at, %s)")
	}
	return "NULL"
}

var comparisonSQL = [...]string{equal: " = ", notEqual: " != ", less: " < ", lessEqual: " <= ", greater: " > ", greaterEqual: " >= "}

func constSQL(n *node) string {
	switch n.kind {
	case kindBool:
		return strconv.FormatBool(n.truth)
	case kindText:
		return quote(n.text)
	case kindNumber:
		return "toDecimal128(" + quote(n.written) + ", 4)"
	case kindFloat:
		return "toFloat64(" + quote(strconv.FormatFloat(n.float, 'g', -1, 64)) + ")"
	default:
		return instantSQL(n.at)
	}
}

func instantSQL(t domain.Millis) string {
	return "toDateTime64(" + quote(t.Time().Format("2006-01-02 15:04:05.000")) + ", 3, 'UTC')"
}

func pathSQL(path []string) string {
	var b strings.Builder
	for _, key := range path {
		b.WriteString(", " + quote(key))
	}
	return b.String()
}

func jsonSQL(n *node) string {
	path := pathSQL(n.path)
	switch n.kind {
	case kindBool:
		return "if(JSONType(c.traits" + path + ") = 'Bool', JSONExtractBool(c.traits" + path + "), NULL)"
	case kindText:
		return "if(JSONType(c.traits" + path + ") = 'String', JSONExtractString(c.traits" + path + "), NULL)"
	default:
		return "if(JSONType(c.traits" + path + ") IN ('Int64', 'UInt64', 'Double'), JSONExtractFloat(c.traits" + path + "), NULL)"
	}
}

var quoter = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`)

func quote(s string) string { return "'" + quoter.Replace(s) + "'" }
