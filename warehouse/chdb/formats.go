package chdb

import "strings"

// rowFormats write each row by itself, so that parts of a result can be written
// one after the other.
var rowFormats = setOf(`TabSeparated TSV TabSeparatedRaw TSVRaw Raw CSV JSONEachRow JSONLines JSONL NDJSON
	JSONCompactEachRow JSONStringsEachRow JSONCompactStringsEachRow TSKV LineAsString RowBinary Native RawBLOB
	Null MsgPack BSONEachRow`)

func isRowFormat(format string) bool { return rowFormats[strings.ToLower(format)] }

// contentType is what ClickHouse answers for a format.
func contentType(format string) string {
	f := strings.ToLower(format)
	switch {
	case f == "native" || f == "parquet" || f == "arrow" || f == "arrowstream" || f == "orc" || f == "avro" ||
		strings.HasPrefix(f, "rowbinary") || f == "rawblob" || f == "msgpack" || f == "bsoneachrow" || f == "npy":
		return "application/octet-stream"
	case strings.Contains(f, "json") && strings.Contains(f, "eachrow") || f == "jsonl" || f == "jsonlines" || f == "ndjson":
		return "application/x-ndjson; charset=UTF-8"
	case strings.Contains(f, "json"):
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(f, "csvwithnames"):
		return "text/csv; charset=UTF-8; header=present"
	case f == "csv":
		return "text/csv; charset=UTF-8; header=absent"
	case strings.HasPrefix(f, "tabseparated") || strings.HasPrefix(f, "tsv"):
		return "text/tab-separated-values; charset=UTF-8"
	case f == "xml":
		return "application/xml; charset=UTF-8"
	case f == "markdown":
		return "text/markdown; charset=UTF-8"
	case f == "png":
		return "image/png"
	}
	return "text/plain; charset=UTF-8"
}
