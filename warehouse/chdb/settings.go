package chdb

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clientSettings are the settings that a request from outside may send: how
// results look, how times and numbers are written, and limits on itself.
var clientSettings = setOf(`
	max_execution_time max_threads max_rows_to_read max_bytes_to_read max_rows_to_read_leaf max_result_rows
	max_result_bytes result_overflow_mode read_overflow_mode timeout_overflow_mode max_memory_usage max_block_size
	max_rows_to_group_by group_by_overflow_mode max_bytes_before_external_group_by max_bytes_before_external_sort
	limit offset extremes final session_timezone date_time_input_format date_time_output_format
	date_time_64_output_format_cut_trailing_zeros_align_to_groups_of_thousands interval_output_format bool_true_representation bool_false_representation
	join_use_nulls join_algorithm group_by_use_nulls aggregate_functions_null_for_empty transform_null_in
	any_join_distinct_right_table_keys join_default_strictness cast_keep_nullable union_default_mode
	distinct_overflow_mode prefer_column_name_to_alias enable_positional_arguments asterisk_include_alias_columns asterisk_include_materialized_columns
	allow_experimental_analyzer enable_analyzer allow_experimental_window_functions use_uncompressed_cache
	optimize_move_to_prewhere optimize_read_in_order optimize_use_projections force_primary_key force_index_by_date
	count_distinct_implementation use_query_cache log_queries log_comment log_profile_events
	use_variant_as_common_type describe_compact_output describe_include_subcolumns
	output_format_json_quote_64bit_integers output_format_json_quote_64bit_floats
	output_format_json_quote_denormals output_format_json_quote_decimals output_format_json_named_tuples_as_objects
	output_format_json_array_of_rows output_format_json_validate_utf8 output_format_json_escape_forward_slashes
	output_format_json_skip_null_value_in_named_tuples output_format_json_map_as_array_of_tuples
	output_format_csv_crlf_end_of_line output_format_tsv_crlf_end_of_line output_format_csv_serialize_tuple_into_separate_columns
	output_format_decimal_trailing_zeros output_format_write_statistics
	output_format_pretty_max_rows output_format_pretty_color output_format_pretty_row_numbers output_format_pretty_max_column_pad_width
	output_format_pretty_max_value_width output_format_pretty_grid_charset output_format_pretty_single_large_number_tip_threshold
	output_format_native_encode_types_in_binary_format output_format_native_write_json_as_string
	output_format_binary_encode_types_in_binary_format output_format_binary_write_json_as_string
	output_format_arrow_string_as_string output_format_arrow_low_cardinality_as_dictionary output_format_arrow_compression_method
	output_format_parquet_string_as_string output_format_parquet_compression_method output_format_parquet_row_group_size
	output_format_enable_streaming output_format_parallel_formatting output_format_markdown_escape_special_characters
	format_csv_delimiter format_csv_null_representation format_tsv_null_representation
	format_custom_field_delimiter format_custom_row_after_delimiter format_custom_escaping_rule
`)

// requestArguments steer the HTTP request and are no settings of the engine.
// Some of them are, in a server; here the handler knows them itself.
var requestArguments = setOf(`query database default_format user password quota_key query_id session_id
	session_timeout session_check enable_http_compression http_zlib_compression_level compress decompress
	client_protocol_version wait_end_of_query buffer_size send_progress_in_http_headers
	http_headers_progress_interval_ms http_write_exception_in_output_format add_http_cors_header role stacktrace close_session
	network_compression_method network_zstd_compression_level http_wait_end_of_query
	http_response_buffer_size http_make_head_request readonly http_receive_timeout http_send_timeout
	cancel_http_readonly_queries_on_client_close http_max_field_value_size`)

func isRequestArgument(name string) bool {
	return requestArguments[name] || strings.HasPrefix(name, "param_")
}

// settingName is what a name of the engine's settings looks like; anything else
// must not become an argument of a connection.
func settingName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if !isWordByte(name[i]) {
			return false
		}
	}
	return true
}

// bounded lowers a limit that the outside sends to the one in force. Zero means
// none to the engine, and so the one in force here.
func bounded(value string, limit uint64) (string, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		if f, ferr := strconv.ParseFloat(value, 64); ferr == nil && f > 0 && f <= float64(limit) {
			return value, nil
		}
		return "", &Exception{Code: 72, Message: "Cannot parse number " + clip(value) + ". (CANNOT_PARSE_NUMBER)"}
	}
	if n == 0 || n > limit {
		n = limit
	}
	return strconv.FormatUint(n, 10), nil
}

// privateSettings passes the request's settings on.
func (h *handler) privateSettings(args url.Values) ([]string, error) {
	var set []string
	for name, values := range args {
		if isRequestArgument(name) {
			continue
		}
		if !h.engine.settings[name] {
			return nil, &Exception{Code: 115, Message: "Setting " + clip(name) + " is neither a builtin setting nor started with the prefix 'SQL_' registered for user-defined settings. (UNKNOWN_SETTING)"}
		}
		set = append(set, name+"="+values[0])
	}
	slices.Sort(set)
	return set, nil
}

// A result in a format that is one document, such as JSON, is made whole in
// memory that no limit of the engine's on a statement counts.
const (
	maxDocumentRows  = 1_000_000
	maxDocumentBytes = 128 << 20
)

// publicSettings takes what the list has, keeps the limits, and puts what the
// outside cannot change behind it.
func (h *handler) publicSettings(args url.Values, document bool) ([]string, error) {
	limits := map[string]uint64{
		"max_execution_time": uint64(h.maxTime / time.Second),
		"max_memory_usage":   h.maxMem,
		"max_threads":        h.threads,
		"max_result_rows":    h.maxRows,
	}
	if document {
		limits["max_result_rows"], limits["max_result_bytes"] = min(h.maxRows, maxDocumentRows), maxDocumentBytes
	}
	var set []string
	for name, values := range args {
		if isRequestArgument(name) {
			continue
		}
		if !clientSettings[name] || !h.engine.settings[name] {
			return nil, refuse("the setting %s", clip(name))
		}
		value := values[0]
		if limit, isLimit := limits[name]; isLimit {
			var err error
			if value, err = bounded(value, limit); err != nil {
				return nil, err
			}
			delete(limits, name)
		}
		if name != "log_comment" {
			set = append(set, name+"="+value)
		}
	}
	for name, limit := range limits {
		set = append(set, name+"="+strconv.FormatUint(limit, 10))
	}
	slices.Sort(set)
	return append(set, "allow_introspection_functions=0", "allow_ddl=0", "readonly=1"), nil
}
