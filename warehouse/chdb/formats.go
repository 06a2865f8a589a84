package chdb

import "strings"

// rowFormats write each row by itself, so that parts of a result can be written
// one after the other.
var rowFormats = setOf(`TabSeparated TSV TabSeparatedRaw TSVRaw Raw CSV JSONEachRow JSONLines JSONL NDJSON
	JSONCompactEachRow JSONStringsEachRow JSONCompactStringsEachRow TSKV LineAsString RowBinary Native RawBLOB
	Null MsgPack BSONEachRow`)

// headedFormats are row formats with so many lines of names and types before the
// rows. The engine writes them before each part; all but the first are cut.
var headedFormats = map[string]int{
	"csvwithnames": 1, "csvwithnamesandtypes": 2,
	"tsvwithnames": 1, "tsvwithnamesandtypes": 2, "tabseparatedwithnames": 1, "tabseparatedwithnamesandtypes": 2,
	"tsvrawwithnames": 1, "tsvrawwithnamesandtypes": 2, "tabseparatedrawwithnames": 1, "tabseparatedrawwithnamesandtypes": 2,
	"jsoncompacteachrowwithnames": 1, "jsoncompacteachrowwithnamesandtypes": 2,
	"jsoncompactstringseachrowwithnames": 1, "jsoncompactstringseachrowwithnamesandtypes": 2,
}

func isRowFormat(format string) bool {
	format = strings.ToLower(format)
	return rowFormats[format] || headedFormats[format] > 0
}

// cutHeader cuts the names and types off a part of a result. They are lines; in
// CSV one may hold a line break within quotes.
func cutHeader(format string, part []byte) []byte {
	format = strings.ToLower(format)
	csv := strings.HasPrefix(format, "csv")
	quoted := false
	for left := headedFormats[format]; left > 0 && len(part) > 0; part = part[1:] {
		switch {
		case part[0] == '"' && csv:
			quoted = !quoted
		case part[0] == '\n' && !quoted:
			left--
		}
	}
	return part
}

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
