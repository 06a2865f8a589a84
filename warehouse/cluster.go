package warehouse

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// On a cluster each table of a generation is two: touchpoints_g7_local on every
// node, replicated within its shard, and touchpoints_g7 over all shards, which is
// what everything reads and writes. The SQL files say what a server by itself
// gets; what a cluster gets is made of them here.

var clusterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// clusterSettings hold for every statement on a cluster, unless the DSN says
// otherwise.
var clusterSettings = clickhouse.Settings{
	// A node that is away is waited for by nobody: it finds the statement when it
	// comes back.
	"distributed_ddl_output_mode": "throw_only_active",
	// An IN or a JOIN with a table of all shards is answered once, and the answer
	// sent to each.
	"distributed_product_mode": "global",
	// An INSERT has reached its shards when it returns, and most of the replicas of
	// each.
	"distributed_foreground_insert": 1,
	"insert_quorum":                 "auto",
	"insert_quorum_timeout":         60_000, // ms
}

func withDefaults(opt *clickhouse.Options, settings clickhouse.Settings) {
	if opt.Settings == nil {
		opt.Settings = clickhouse.Settings{}
	}
	for name, value := range settings {
		if _, given := opt.Settings[name]; !given {
			opt.Settings[name] = value
		}
	}
}

// How long touchpoints remember which blocks they have taken, so that an INSERT that
// is repeated lands once: longer than any retry lasts. The rows of the other tables
// replace themselves, and what those remember is never asked for; it is kept small,
// as it lies in Keeper's memory.
const (
	rememberSeconds = 14 * 24 * 3600
	rememberBlocks  = 100_000
	rememberFew     = 100
)

// shardedBy is the column whose hash chooses the shard of a row. It never changes
// in the life of a row, and rows that replace one another agree on it: so FINAL
// finds them on one shard, and a merge of customers moves none.
var shardedBy = map[string]string{
	"touchpoints":              "subject_id",
	"subjects":                 "subject_id",
	"feedback":                 "subject_id",
	"feedback_handling":        "event_id",
	"delivery_facts":           "delivery_id",
	"segment_stays":            "customer_id",
	"identity_conflicts":       "event_id",
	"accounts":                 "account_id",
	"account_members":          "account_id",
	"customers":                "customer_id",
	"stage_transitions":        "customer_id",
	"loyalty_status":           "customer_id",
	"loyalty_ledger":           "customer_id",
	"tier_transitions":         "customer_id",
	"satisfaction":             "customer_id",
	"satisfaction_transitions": "customer_id",
	"cases":                    "customer_id",
	"surveys":                  "customer_id",
}

// onCluster is the clause that has a statement run on every node, with a space
// before it; empty on a server by itself.
func (db *DB) onCluster() string {
	if db.cluster == "" {
		return ""
	}
	return " ON CLUSTER `" + db.cluster + "`"
}

// local is the name, with the database, of the table that holds the rows of a
// table on a node.
func (db *DB) local(table string, g Generation) string {
	name := db.database + "." + table + "_" + g.String()
	if db.cluster != "" {
		name += "_local"
	}
	return name
}

var (
	createTable = regexp.MustCompile(`(?m)^CREATE TABLE IF NOT EXISTS (?:\w+\.)?(\w+)$`)
	createOther = regexp.MustCompile(`(?m)^CREATE OR REPLACE (VIEW|DICTIONARY) (\w+)`)
	engine      = regexp.MustCompile(`(?m)^ENGINE = (\w*MergeTree)(?:\((.*)\))?$`)
)

// replicated makes a table of a server by itself one that is replicated among the
// nodes of one path in Keeper. The path is of the table's name and not of its
// UUID, so that a node that joins later, and repeats the statement, joins the
// others' table.
func (db *DB) replicated(text, name, path, replica string) string {
	text = createTable.ReplaceAllString(text, "CREATE TABLE IF NOT EXISTS "+db.database+"."+name+db.onCluster())
	found := engine.FindStringSubmatch(text)
	arguments := quote(path) + ", " + quote(replica)
	if found[2] != "" {
		arguments += ", " + found[2]
	}
	text = engine.ReplaceAllLiteralString(text, "ENGINE = Replicated"+found[1]+"("+arguments+")")
	blocks := rememberFew
	if found[1] == "MergeTree" {
		blocks = rememberBlocks
	}
	return strings.Replace(text, "\nSETTINGS ", fmt.Sprintf("\nSETTINGS replicated_deduplication_window = %d, replicated_deduplication_window_seconds = %d,\n    ",
		blocks, rememberSeconds), 1)
}

// tableStatements are what makes a table of a generation, or its dictionary.
func (db *DB) tableStatements(table string, g Generation) ([]string, error) {
	text, err := db.sqlFile("tables/"+table+".sql", g)
	if err != nil {
		return nil, err
	}
	if db.cluster == "" {
		return []string{text}, nil
	}
	key, isTable := shardedBy[table]
	if !isTable {
		// The dictionary of moved subjects stands on every node and reads the
		// subjects of all shards.
		return []string{db.everywhere(text)}, nil
	}
	name := table + "_" + g.String()
	return []string{
		db.replicated(text, name+"_local", "/clickhouse/tables/{shard}/"+db.database+"/"+name, "{replica}"),
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s.%s%s AS %s.%s_local\nENGINE = Distributed(%s, %s, %s, sipHash64(%s))",
			db.database, name, db.onCluster(), db.database, name,
			quote(db.cluster), quote(db.database), quote(name+"_local"), key),
	}, nil
}

// addStatements are what adds a column to a table of a generation, last to what
// everything reads and writes.
func (db *DB) addStatements(c *addedColumn, g Generation) []string {
	tables := []string{db.database + "." + c.table + "_" + g.String()}
	if db.cluster != "" {
		tables = append([]string{db.local(c.table, g)}, tables...)
	}
	for i, table := range tables {
		tables[i] = fmt.Sprintf("ALTER TABLE %s%s ADD COLUMN IF NOT EXISTS %s %s AFTER %s", table, db.onCluster(), c.name, c.typ, c.after)
	}
	return tables
}

// everywhere makes a view or a dictionary one on every node.
func (db *DB) everywhere(text string) string {
	return createOther.ReplaceAllString(text, "CREATE OR REPLACE $1 "+db.database+".$2"+db.onCluster())
}

// viewStatement is what makes a public view read a generation.
func (db *DB) viewStatement(view string, g Generation) (string, error) {
	text, err := db.sqlFile("views/"+view+".sql", g)
	if err != nil || db.cluster == "" {
		return text, err
	}
	// An analyst's session need not have the settings of ours.
	text = strings.ReplaceAll(text, "\nLEFT JOIN (", "\nGLOBAL LEFT JOIN (")
	return db.everywhere(text), nil
}

// onAll is a statement about a view: of every node, where there are several.
func (db *DB) onAll(text string) string {
	if db.cluster == "" {
		return text
	}
	return db.everywhere(text)
}

// dropStatements are what drops whatever exists of a table of a generation.
func (db *DB) dropStatements(table string, g Generation) []string {
	name := db.database + "." + table + "_" + g.String()
	if table == "moved" {
		return []string{"DROP DICTIONARY IF EXISTS " + name + db.onCluster() + " SYNC"}
	}
	all := []string{"DROP TABLE IF EXISTS " + name + db.onCluster() + " SYNC"}
	if db.cluster != "" {
		all = append(all, "DROP TABLE IF EXISTS "+db.local(table, g)+db.onCluster()+" SYNC")
	}
	return all
}

// migrationStatements are those of a migration. On a cluster what it makes stands
// on every node, and its tables have the same rows on all of them.
func (db *DB) migrationStatements(text string) []string {
	all := statements(db.render(text, 0))
	if db.cluster == "" {
		return all
	}
	for i, s := range all {
		if name := createTable.FindStringSubmatch(s); name != nil {
			all[i] = db.replicated(s, name[1], "/clickhouse/tables/all/"+db.database+"/"+name[1], "{shard}-{replica}")
		} else {
			all[i] = s + db.onCluster()
		}
	}
	return all
}

// reloadStatements make every node's dictionary of moved subjects read again,
// each from a replica that has what was written.
func (db *DB) reloadStatements(g Generation) []string {
	reload := "SYSTEM RELOAD DICTIONARY" + db.onCluster() + " " + db.database + ".moved_" + g.String()
	if db.cluster == "" {
		return []string{reload}
	}
	return []string{"SYSTEM SYNC REPLICA" + db.onCluster() + " " + db.local("subjects", g) + " LIGHTWEIGHT", reload}
}
