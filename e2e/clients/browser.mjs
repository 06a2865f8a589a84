// @segment/analytics-next in Chromium: a page on a server of its own loads the
// library, and the library asks Sojourn where to send. Every request of the
// browser is listed, so that one that leaves this machine is seen.
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { chromium } from 'playwright-core'

const [sojourn, writeKey, executablePath] = process.argv.slice(2)

const library = await readFile(new URL('node_modules/@segment/analytics-next/dist/umd/index.js', import.meta.url))
const page = `<!doctype html><title>Shop</title><script src="/analytics.js"></script><script>
  window.analytics = window.AnalyticsNext.AnalyticsBrowser.load({ writeKey: ${JSON.stringify(writeKey)}, cdnURL: ${JSON.stringify(sojourn)} })
</script><h1>Shop</h1>`
const shop = createServer((req, res) => {
  const script = req.url === '/analytics.js'
  res.setHeader('Content-Type', script ? 'text/javascript' : 'text/html; charset=utf-8')
  res.end(script ? library : page)
})
await new Promise((resolve) => shop.listen(0, '127.0.0.1', resolve))
const address = `http://127.0.0.1:${shop.address().port}`

const browser = await chromium.launch({
  executablePath, headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const requests = []
const problems = []
try {
  const tab = await browser.newPage()
  tab.on('pageerror', (e) => problems.push(String(e)))
  tab.on('console', (m) => m.type() === 'error' && problems.push(m.text()))
  tab.on('response', (r) => requests.push(`${r.status()} ${r.request().method()} ${r.url()}`))
  tab.on('requestfailed', (r) => problems.push(`${r.url()}: ${r.failure()?.errorText}`))

  const answered = (path) => tab.waitForResponse((r) => r.url().startsWith(sojourn + path) && r.request().method() === 'POST')
  const send = async (path, call) => {
    const [response] = await Promise.all([answered(path), tab.evaluate(call)])
    // A page that is left cuts off the answers that it has not read to the end.
    await response.finished()
    if (!response.ok()) problems.push(`${path}: ${response.status()} ${await response.text()}`)
    return response.request().postDataJSON()
  }

  // An anonymous visit.
  await tab.goto(address + '/?utm_source=newsletter')
  const first = await send('/v1/p', () => window.analytics.page('Shop', 'Home'))
  await send('/v1/t', () => window.analytics.track('Product Viewed', { product_id: 'p-1', price: 19.5 }))
  // The visitor comes back to another page, and logs in there.
  await tab.goto(address + '/account')
  await send('/v1/p', () => window.analytics.page('Shop', 'Account'))
  await send('/v1/i', () => window.analytics.identify('browser-1', { email: 'sam@example.com', name: 'Sam' }))
  await send('/v1/t', () => window.analytics.track('Order Completed', { order_id: 'b-1', total: 25, currency: 'USD' }))
  await send('/v1/g', () => window.analytics.group('g-1', { name: 'Example Ltd' }))
  console.log(JSON.stringify({ anonymousId: first.anonymousId, requests, problems, shop: address }))
} finally {
  await browser.close()
  shop.close()
}
