// Speaks to the address given as an official client does, and prints what it
// got as one JSON object. The Go test beside it says what that must be.
import { ClickHouseLogLevel, createClient } from '@clickhouse/client'

const client = createClient({ url: process.argv[2], compression: { response: true, request: true }, log: { level: ClickHouseLogLevel.OFF } })
const out = {}

const rows = async (query, format, extra = {}) =>
  (await client.query({ query, format, ...extra })).json()

const failure = async (f) => {
  try {
    await f()
    return 'no error'
  } catch (e) {
    return `${e.code} ${e.type}`
  }
}

out.ping = (await client.ping()).success
out.each = await rows(
  'SELECT subject, name, amount FROM touchpoints WHERE amount > {least:Decimal(18, 4)} ORDER BY subject',
  'JSONEachRow',
  { query_params: { least: 1 } },
)
out.json = (await rows('SELECT count() AS n FROM sojourn.touchpoints', 'JSON')).data
out.id = (await client.query({ query: 'SELECT 1', format: 'JSON', query_id: 'my-id' })).query_id
out.settings = await rows("SELECT getSetting('max_threads') AS t", 'JSONEachRow', {
  clickhouse_settings: { max_threads: 2, output_format_json_quote_64bit_integers: 0 },
})

let streamed = 0
const big = await client.query({ query: 'SELECT number FROM numbers(300000)', format: 'JSONCompactEachRow' })
for await (const part of big.stream()) streamed += part.length
out.streamed = streamed

out.unknown = await failure(() => rows('SELECT nope FROM touchpoints', 'JSON'))
out.file = await failure(() => rows("SELECT file('/etc/hostname')", 'JSON'))
out.setting = await failure(() => rows('SELECT 1', 'JSON', { clickhouse_settings: { format_schema: 'x' } }))
out.insert = await failure(() => client.insert({ table: 'sojourn.touchpoints_g1', values: [{ subject: 'x' }], format: 'JSONEachRow' }))
out.command = await failure(() => client.command({ query: 'DROP TABLE sojourn.touchpoints_g1' }))

const stop = new AbortController()
const long = client.query({ query: 'SELECT sum(sipHash64(number)) FROM numbers(1000000000000)', format: 'JSON', abort_signal: stop.signal })
setTimeout(() => stop.abort(), 200)
out.aborted = await failure(() => long)

await client.close()
console.log(JSON.stringify(out))
