// @clickhouse/client against the port that Sojourn opens.
import { createClient } from '@clickhouse/client'

const client = createClient({ url: process.argv[2] })
const refusal = async (work) => {
  try {
    await work()
    return 'not refused'
  } catch (e) {
    return e.type ?? String(e)
  }
}
const select = async (query, query_params) =>
  (await client.query({ query, query_params, format: 'JSONEachRow' })).json()

const answer = {
  ping: (await client.ping()).success,
  customers: await select(
    'SELECT user_ids, stage, purchases, revenue FROM sojourn.customers WHERE has(user_ids, {user: String})', { user: '42' }),
  transitions: await select('SELECT to_stage FROM stage_transitions ORDER BY at, seq'),
  insert: await refusal(() => client.insert({ table: 'sojourn.customers', values: [{ stage: 'loyal' }], format: 'JSONEachRow' })),
  insertIntoTable: await refusal(() => client.insert({ table: 'touchpoints', values: [{ name: 'Forged' }], format: 'JSONEachRow' })),
  drop: await refusal(() => client.command({ query: 'DROP VIEW sojourn.customers' })),
  create: await refusal(() => client.command({ query: 'CREATE TABLE mine (n Int8) ENGINE = Memory' })),
  file: await refusal(() => select("SELECT * FROM file('/etc/hostname', LineAsString)")),
}
// Rows come as a stream, too.
let streamed = 0
const rows = await client.query({ query: 'SELECT number FROM numbers(100000)', format: 'JSONEachRow' })
for await (const chunk of rows.stream()) streamed += chunk.length
answer.streamed = streamed
await client.close()
console.log(JSON.stringify(answer))
