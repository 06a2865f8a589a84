// @eventstore/db-client against Sojourn's log: it appends (by BatchAppend, which
// it uses where it is offered), reads, subscribes and meets errors.
import { randomUUID } from 'node:crypto'
import {
  ANY, BACKWARDS, END, EventStoreDBClient, FORWARDS, NO_STREAM, START, STREAM_EXISTS, AccessDeniedError, StreamDeletedError,
  StreamNotFoundError, WrongExpectedVersionError, binaryEvent, eventTypeFilter, jsonEvent,
  persistentSubscriptionToStreamSettingsFromDefaults, streamNameFilter,
} from '@eventstore/db-client'

const [connection] = process.argv.slice(2)
const client = EventStoreDBClient.connectionString(connection)
const out = {}
const stream = `order-${randomUUID()}`
const event = (n, type = 'OrderPlaced') => jsonEvent({ id: randomUUID(), type, data: { n, text: 'Grüße' }, metadata: { by: 'test' } })
const kindOf = async (promise) => {
  try {
    await promise
    return 'no error'
  } catch (e) {
    for (const kind of [WrongExpectedVersionError, AccessDeniedError, StreamDeletedError, StreamNotFoundError]) {
      if (e instanceof kind) return kind.name
    }
    return e.code === 12 ? 'UNIMPLEMENTED' : String(e)
  }
}
const read = async (name, options) => {
  const got = []
  for await (const { event } of client.readStream(name, options)) got.push(event)
  return got
}

// A stream of Sojourn's own.
let ownStream
for await (const { event } of client.readAll({ fromPosition: START })) {
  if (event.type.startsWith('touchpoint.')) ownStream ??= event.streamId
}

// Appends.
const first = event(1)
const a = await client.appendToStream(stream, [first, event(2)], { expectedRevision: NO_STREAM })
const again = await client.appendToStream(stream, [first], { expectedRevision: NO_STREAM })
out.appended = [a.success, Number(a.nextExpectedRevision), a.position.commit > 0n, again.success]
out.batch = await client.supports({ path: '/event_store.client.streams.Streams/BatchAppend' })
await client.appendToStream(stream, binaryEvent({ type: 'Scan', data: Uint8Array.from([255, 0, 7]), metadata: Uint8Array.from([9]) }), { expectedRevision: 1n })
// Many at once, and one too large for a single message of a batch.
const many = Array.from({ length: 200 }, (_, n) => client.appendToStream(`many-${n % 7}-${stream}`, event(n), { expectedRevision: ANY }))
out.many = (await Promise.all(many)).filter((r) => r.success).length
const large = jsonEvent({ type: 'Large', data: { text: 'x'.repeat(2 << 20) } })
out.large = (await client.appendToStream(`large-${stream}`, [large, event(1), event(2)], { batchAppendSize: 1 << 20 })).success
// With credentials it appends by a call of its own.
out.single = (await client.appendToStream(stream, event(3, 'Single'), { credentials: { username: 'anyone', password: 'x' } })).success

// Errors.
out.wrongVersion = await kindOf(client.appendToStream(stream, event(9), { expectedRevision: NO_STREAM }))
try {
  await client.appendToStream(stream, event(9), { expectedRevision: 7n })
} catch (e) {
  out.wrongDetails = [e.streamName === stream, Number(e.expectedVersion), Number(e.actualVersion)]
}
out.streamExists = await kindOf(client.appendToStream('order-none', event(9), { expectedRevision: STREAM_EXISTS }))
out.ownAppend = await kindOf(client.appendToStream(ownStream, event(9)))
out.ownDelete = await kindOf(client.deleteStream(ownStream))
out.ownTombstone = await kindOf(client.tombstoneStream(ownStream))
out.ownMetadata = await kindOf(client.setStreamMetadata(ownStream, { maxCount: 1 }))
out.missing = await kindOf(read('order-none'))
out.persistent = await kindOf(client.createPersistentSubscriptionToStream(stream, 'group', persistentSubscriptionToStreamSettingsFromDefaults()))

// Reads.
const events = await read(stream)
out.read = events.map((e) => [Number(e.revision), e.type, e.isJson ? e.data.n : [...e.data], e.isJson ? e.metadata.by : [...e.metadata]])
out.id = events[0].id === first.id
out.text = events[0].data.text
out.created = Math.abs(Date.now() - events[0].created) < 600_000
out.backwards = (await read(stream, { direction: BACKWARDS, fromRevision: END, maxCount: 2 })).map((e) => Number(e.revision))
out.fromRevision = (await read(stream, { direction: FORWARDS, fromRevision: 2n })).map((e) => Number(e.revision))
let last
for await (const { event } of client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 1 })) last = event
out.last = last.type
const own = await read(ownStream)
out.touchpoint = [own[0].type, own[0].isJson, own[0].data.event]

// Subscriptions: from the start, what stands there and what comes.
const eventLater = () => event(4, 'Later')
const take = async (subscription, count, after) => {
  const got = []
  for await (const { event } of subscription) {
    got.push(event.type)
    if (got.length === after) await client.appendToStream(stream, eventLater())
    if (got.length === count) break
  }
  await subscription.unsubscribe()
  return got
}
out.subscribed = await take(client.subscribeToStream(stream, { fromRevision: START }), 5, 4)
out.resumed = await take(client.subscribeToStream(stream, { fromRevision: 2n }), 2, 0)
out.filtered = await take(client.subscribeToAll({ fromPosition: START, filter: eventTypeFilter({ prefixes: ['Scan', 'Later'] }) }), 2, 0)
out.checkpoints = await new Promise((resolve, reject) => {
  const filter = streamNameFilter({ regex: '^nothing', checkpointInterval: 1, maxSearchWindow: 32, checkpointReached: (_, position) => resolve(position.commit > 0n) })
  client.subscribeToAll({ fromPosition: START, filter }).on('error', reject)
})

// Deleted, and begun anew; ended for ever.
await client.setStreamMetadata(stream, { maxCount: 2 })
out.maxCount = (await read(stream)).map((e) => e.type)
out.metadata = (await client.getStreamMetadata(stream)).metadata.maxCount
await client.deleteStream(stream)
out.deleted = await kindOf(read(stream))
out.recreated = Number((await client.appendToStream(stream, event(5), { expectedRevision: NO_STREAM })).nextExpectedRevision)
await client.tombstoneStream(stream)
out.ended = [await kindOf(read(stream)), await kindOf(client.appendToStream(stream, event(6)))]

console.log(JSON.stringify(out))
await client.dispose()
process.exit(0)
