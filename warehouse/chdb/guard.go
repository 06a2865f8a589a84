package chdb

import (
	_ "embed"
	"regexp"
	"strings"
)

// The guard decides what the outside may run. The engine has no access control
// of its own, and readonly=1 stops neither INTO OUTFILE nor functions that read
// files, so a statement passes three readings:
//
//  1. this one, over the tokens, which allows by list and refuses the rest;
//  2. the engine's own classification: one statement, and it only reads;
//  3. the engine's own syntax tree, whose function and table names are held
//     against the same lists.
//
// What passes runs on a connection of its own with readonly=1.

//go:embed functions.txt
var functionsFile string

// allowedFunctions are the functions of this engine that touch nothing but
// their arguments, in lower case. A test keeps the file in step with the engine,
// so that a new function is refused until someone has looked at it.
var allowedFunctions = lines(functionsFile)

func lines(text string) map[string]bool {
	set := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && !strings.HasPrefix(line, "#") {
			set[strings.ToLower(line)] = true
		}
	}
	return set
}

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[strings.ToLower(w)] = true
	}
	return set
}

var (
	// deniedFunctions reach files, the network or the server itself, hold a
	// query for nothing, or read what only a server's configuration names.
	deniedFunctions = setOf(`file fuzzQuery chdb catboostEvaluate
		aiClassify aiEmbed aiExtract aiGenerate aiTranslate
		AIClassify AIEmbed AIExtract AIGenerate AITranslate
		getServerSetting getServerPort getMacro getClientHTTPHeader showCertificate getMergeTreeSetting
		filesystemAvailable filesystemCapacity filesystemUnreserved
		addressToLine addressToLineWithInlines addressToSymbol demangle flameGraph
		sleep sleepEachRow logTrace trap hasThreadFuzzer
		naiveBayesClassifier naiveBayesClassifierWithProb naiveBayesClassifierWithAllProbs
		regionHierarchy regionIn regionToArea regionToCity regionToContinent regionToCountry
		regionToDistrict regionToName regionToPopulation regionToTopContinent
		generateSerialID zookeeperSessionUptime
		transactionID transactionLatestSnapshot transactionOldestSnapshot
		joinGet joinGetOrNull timeSeriesStoreTags timeSeriesCopyTag timeSeriesCopyTags
		getOSKernelVersion buildId structureToCapnProtoSchema structureToProtobufSchema`)

	allowedTableFunctions = setOf(`numbers numbers_mt generateSeries generate_series
		primes values view null`)

	// keywordsBeforeParenthesis are not calls although a parenthesis follows.
	keywordsBeforeParenthesis = setOf(`select with from join using on where prewhere having qualify by as in and or not
		xor between like ilike is any all case when then else over filter within distinct except replace apply columns
		union intersect limit offset settings sets rollup cube fill interpolate to step array inner left right full
		outer cross semi anti asof global window partition rows range groups ifnull explain describe desc table
		exists values interval set glob return end final recursive materialized paste`)

	// dataTypes appear with parameters in casts.
	dataTypes = setOf(`decimal decimal32 decimal64 decimal128 decimal256 dec numeric fixed datetime datetime32
		datetime64 time time64 nullable lowcardinality array tuple map nested fixedstring enum enum8 enum16
		aggregatefunction simpleaggregatefunction variant dynamic json char varchar character binary varbinary
		bfloat16 float double qbit`)

	// internalFunctions are what the parser makes of operators.
	internalFunctions = setOf(`lambda arrayelement tupleelement _cast cast in notin globalin globalnotin plus
		negate not and or array tuple map exists nullin countdistinct isnull isnotnull between trim interval grouping`)

	systemTables = setOf(`one numbers numbers_mt tables columns databases functions
		table_functions table_engines database_engines formats data_type_families time_zones keywords collations
		aggregate_function_combinators settings documentation contributors licenses dictionaries parts projections
		completions codecs unicode`)

	showWords = setOf(`tables databases create columns fields index indexes indices keys functions settings setting
		dictionaries engines views full extended changed temporary`)

	// deniedFormats read a schema or a template from a file, reach a registry, or
	// speak another server's protocol.
	deniedFormats = setOf(`template capnproto protobuf protobuflist protobufsingle avroconfluent mysqlwire
		postgresqlwire odbcdriver2`)

	combinators = regexp.MustCompile(`(?i)(simplestate|ordefault|distinct|resample|foreach|argmax|argmin|ornull|tuple|merge|state|array|null|map|if)$`)
)

func functionAllowed(name string) bool {
	name = strings.ToLower(name)
	for {
		if deniedFunctions[name] {
			return false
		}
		if allowedFunctions[name] || internalFunctions[name] {
			return true
		}
		short := combinators.ReplaceAllString(name, "")
		if short == name {
			return false
		}
		name = short
	}
}

// functionDenied reports whether a name is a denied function's, combinators
// aside.
func functionDenied(name string) bool {
	name = strings.ToLower(name)
	for {
		if deniedFunctions[name] {
			return true
		}
		short := combinators.ReplaceAllString(name, "")
		if short == name || allowedFunctions[name] {
			return false
		}
		name = short
	}
}

func callAllowed(name string) bool {
	return functionAllowed(name) || allowedTableFunctions[strings.ToLower(name)]
}

// guarded is what the first reading learned of a statement.
type guarded struct {
	text   string // without semicolons at the end
	format string // of the statement's own FORMAT clause, or empty
	stream bool   // a SELECT, whose result can be fetched in parts
}

// guard reads a statement from outside. The error, if any, says what is refused.
func guard(query string, p params, databases map[string]bool) (guarded, error) {
	tokens, err := tokenize(query)
	if err != nil {
		return guarded{}, err
	}
	for len(tokens) > 0 && tokens[len(tokens)-1].punct(";") {
		tokens = tokens[:len(tokens)-1]
	}
	if len(tokens) == 0 {
		return guarded{}, &Exception{Code: 62, Message: "Empty query. (SYNTAX_ERROR)"}
	}
	g := guarded{text: query[:tokens[len(tokens)-1].end]}
	if err := guardKind(tokens, &g); err != nil {
		return g, err
	}
	for i, t := range tokens {
		if err := guardToken(tokens, i, t, p, databases); err != nil {
			return g, err
		}
	}
	g.format = formatClause(tokens)
	if deniedFormats[strings.ToLower(g.format)] {
		return g, refuse("the format %s", g.format)
	}
	return g, nil
}

// guardKind allows the statements that read.
func guardKind(tokens []token, g *guarded) error {
	i := 0
	for i < len(tokens) && tokens[i].punct("(") {
		i++
	}
	if i == len(tokens) {
		return &Exception{Code: 62, Message: "Syntax error: only parentheses. (SYNTAX_ERROR)"}
	}
	first := tokens[i]
	rest := tokens[i+1:]
	switch {
	case first.is("SELECT", "WITH", "FROM"):
		g.stream = true
		return nil
	case i > 0:
		return refuse("a statement that starts with %q", clip(first.text))
	case first.is("DESCRIBE", "DESC", "EXISTS"):
		return nil
	case first.is("SHOW"):
		if len(rest) > 0 && rest[0].kind == word && showWords[strings.ToLower(rest[0].text)] {
			return nil
		}
		return refuse("this kind of SHOW")
	case first.is("EXPLAIN"):
		for _, t := range rest {
			switch {
			case t.is("SELECT", "WITH", "FROM"), t.punct("("):
				return nil
			case t.kind == word, t.punct("="), t.punct(","):
				if t.is("CREATE", "INSERT", "ALTER", "TABLE", "OVERRIDE", "DROP", "SYSTEM") {
					return refuse("EXPLAIN of anything but SELECT")
				}
			default:
				return refuse("EXPLAIN of anything but SELECT")
			}
		}
		return refuse("EXPLAIN of anything but SELECT")
	}
	return refuse("a statement that starts with %q", clip(first.text))
}

func guardToken(tokens []token, i int, t token, p params, databases map[string]bool) error {
	next := func(n int) token {
		if i+n < len(tokens) {
			return tokens[i+n]
		}
		return token{kind: punct}
	}
	switch {
	case t.punct(";"):
		return refuse("more than one statement")
	case t.punct("{"):
		return guardParameter(tokens[i:], p, databases)
	case t.punct("\\"), t.punct("@"):
		return refuse("the character %s", t.text)
	case t.is("OUTFILE", "INFILE"):
		return refuse("%s", strings.ToUpper(t.text))
	case t.is("PARALLEL") && next(1).is("WITH"):
		return refuse("PARALLEL WITH")
	case t.is("SETTINGS") && next(1).name() && next(2).punct("="):
		return guardSetting(next(1).text)
	case t.is("APPLY"):
		at := next(1)
		if at.punct("(") {
			at = next(2)
		}
		if at.name() && deniedFunctions[strings.ToLower(at.text)] {
			return refuse("the function %s", clip(at.text))
		}
	case t.name() && strings.EqualFold(t.text, "system") && next(1).punct("."):
		if !next(2).name() || !systemTables[strings.ToLower(next(2).text)] {
			return refuse("the table system.%s", clip(next(2).text))
		}
	}
	if t.name() && functionDenied(t.text) {
		// Without parentheses, too: where a lambda is expected, the engine takes
		// the bare name of a function for one.
		return refuse("the name %s (a refused function's)", clip(t.text))
	}
	if t.name() && next(1).punct("(") {
		name := strings.ToLower(t.text)
		switch {
		case t.kind == word && (keywordsBeforeParenthesis[name] || dataTypes[name]):
		case callAllowed(name):
		default:
			return refuse("the function %s", clip(t.text))
		}
	}
	return nil
}

// guardParameter looks at {name:Identifier}, whose value names a table.
func guardParameter(tokens []token, p params, databases map[string]bool) error {
	if len(tokens) < 4 || !tokens[1].name() || !tokens[2].punct(":") {
		return nil // no parameter; the engine says so
	}
	if !tokens[3].is("Identifier") {
		return nil
	}
	for i, name := range p.names {
		if name != tokens[1].text {
			continue
		}
		value, err := tokenize(p.values[i])
		if err != nil {
			return err
		}
		for j, t := range value {
			if !t.name() && !t.punct(".") || functionDenied(t.text) {
				return refuse("the identifier in parameter %s", clip(name))
			}
			if t.name() && j+1 < len(value) && !databases[t.text] || t.name() && strings.EqualFold(t.text, "system") {
				return refuse("the identifier in parameter %s", clip(name))
			}
		}
	}
	return nil
}

// guardSetting refuses a SETTINGS clause in words: under readonly=1 the engine
// takes settings from the request's arguments only.
func guardSetting(name string) error {
	if clientSettings[strings.ToLower(name)] {
		return refuse("a SETTINGS clause (send %s as an argument of the request instead)", name)
	}
	return refuse("the setting %s", clip(name))
}

// formatClause finds the name of a trailing FORMAT clause.
func formatClause(tokens []token) string {
	n := len(tokens)
	if n >= 3 && tokens[n-2].is("FORMAT") && tokens[n-1].name() {
		return tokens[n-1].text
	}
	return ""
}

// clip keeps an error one short line.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return s
}

var (
	treeFunction = regexp.MustCompile(`^\s*(?:Parametrized)?Function (\S+)`)
	treeName     = regexp.MustCompile(`^\s*Identifier (\S+)`)
	treeTable    = regexp.MustCompile(`^\s*TableIdentifier (\S+)`)
	treeDenied   = regexp.MustCompile(`^\s*(?:InsertQuery|CreateQuery|AlterQuery|DropQuery|SystemQuery|SetQuery|BackupQuery|ParallelWithQuery|Explain EXPLAIN TABLE OVERRIDE)`)
)

// guardTree is the third reading: the engine's own tree of the statement, as
// EXPLAIN AST prints it. A line break in a name can add a line, which can only
// refuse more.
func guardTree(tree string, databases map[string]bool) error {
	for line := range strings.SplitSeq(tree, "\n") {
		if treeDenied.MatchString(line) {
			return refuse("the statement")
		}
		if m := treeFunction.FindStringSubmatch(line); m != nil && !callAllowed(m[1]) {
			return refuse("the function %s", clip(m[1]))
		}
		if m := treeName.FindStringSubmatch(line); m != nil {
			for part := range strings.SplitSeq(m[1], ".") {
				if functionDenied(part) {
					return refuse("the name %s (a refused function's)", clip(part))
				}
			}
		}
		if m := treeTable.FindStringSubmatch(line); m != nil {
			database, table, found := strings.Cut(m[1], ".")
			if !found {
				continue
			}
			if strings.EqualFold(database, "system") {
				if !systemTables[strings.ToLower(table)] {
					return refuse("the table system.%s", clip(table))
				}
				continue
			}
			if !databases[database] {
				return refuse("the database %s", clip(database))
			}
		}
	}
	return nil
}
