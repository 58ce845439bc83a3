// Tests JavaScript's mqtt in a page of a real browser: WSPORT WSSPORT DIRECTORY. The page is served from here, runs its
// cases and sends the results back; the certificate of the broker is pinned, since no browser knows its issuer.

import { spawn } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [WS_PORT, WSS_PORT, DIRECTORY] = process.argv.slice(2)
const LIBRARY = readFileSync(new URL('.tools/node_modules/mqtt/dist/mqtt.min.js', import.meta.url))
// Milliseconds; what takes longer has failed.
const PATIENCE = 120_000

// Runs in the page.
async function tryAll(urls) {
  const results = []
  const versions = { '3.1': 3, '3.1.1': 4, '5.0': 5 }
  const connect = (url, version, name) =>
    mqtt.connectAsync(url, {
      clientId: `browser-${version}-${name}`,
      protocolVersion: versions[version],
      protocolId: version === '3.1' ? 'MQIsdp' : 'MQTT',
      reconnectPeriod: 0,
    })
  const same = (what, expected, seen) => {
    if (JSON.stringify(expected) !== JSON.stringify(seen)) throw new Error(`${what}: ${seen} instead of ${expected}`)
  }
  const collect = async (client, topic, qos) => {
    const messages = []
    let wake
    client.on('message', (name, payload, packet) => {
      messages.push([packet.qos, packet.retain, payload])
      wake?.()
    })
    await client.subscribeAsync(topic, { qos })
    return async (count) => {
      while (messages.length < count) await new Promise((resolve) => (wake = resolve))
      return messages
    }
  }
  const qos = (level) => async (url, version, topic) => {
    const [sub, pub] = [await connect(url, version, 'sub'), await connect(url, version, 'pub')]
    const receive = await collect(sub, `${topic}/+`, level)
    for (const text of ['one', 'two', 'three']) await pub.publishAsync(`${topic}/a`, text, { qos: level })
    const seen = (await receive(3)).map(([granted, retain, payload]) => [granted, retain, payload.toString()])
    same('messages', ['one', 'two', 'three'].map((text) => [level, false, text]), seen)
    await Promise.all([sub.endAsync(), pub.endAsync()])
  }
  const retained = async (url, version, topic) => {
    const pub = await connect(url, version, 'pub')
    await pub.publishAsync(topic, 'kept', { qos: 1, retain: true })
    const late = await connect(url, version, 'late')
    const [[, retain, payload]] = await (await collect(late, topic, 1))(1)
    same('retained', [true, 'kept'], [retain, payload.toString()])
    await pub.publishAsync(topic, '', { qos: 1, retain: true })
    await Promise.all([late.endAsync(), pub.endAsync()])
  }
  const large = async (url, version, topic) => {
    const client = await connect(url, version, 'large')
    const receive = await collect(client, topic, 1)
    const sent = new Uint8Array(1024 * 1024).map((_, index) => index % 251)
    await client.publishAsync(topic, sent, { qos: 1 })
    const [[, , payload]] = await receive(1)
    same('bytes', sent.length, payload.length)
    same('the first wrong byte', -1, sent.findIndex((byte, index) => payload[index] !== byte))
    await client.endAsync()
  }
  const cases = { 'QoS 0': qos(0), 'QoS 1': qos(1), 'QoS 2': qos(2), retained, 'large payload': large }
  for (const [transport, url] of Object.entries(urls)) {
    for (const version of Object.keys(versions)) {
      for (const [name, run] of Object.entries(cases)) {
        try {
          await run(url, version, `browser/${transport}/${version}/${name}`)
          results.push(`ok browser ${transport} ${version} ${name}`)
        } catch (error) {
          results.push(`FAILED browser ${transport} ${version} ${name}: ${error.message.replaceAll(/\s+/g, ' ')}`)
        }
      }
    }
  }
  const foreign = new WebSocket(urls.ws, 'soap')
  await new Promise((resolve) => (foreign.onerror = resolve))
  results.push('ok browser ws - a foreign subprotocol is refused')
  await fetch('/results', { method: 'POST', body: results.join('\n') })
}

const profile = mkdtempSync(join(tmpdir(), 'browser-'))
const urls = { ws: `ws://localhost:${WS_PORT}/mqtt`, wss: `wss://localhost:${WSS_PORT}/mqtt` }
const page = `<!doctype html><script src="/mqtt.min.js"></script>
<script>(${tryAll})(${JSON.stringify(urls)})</script>`

const server = createServer((request, response) => {
  if (request.url === '/mqtt.min.js') return response.end(LIBRARY)
  if (request.url !== '/results') return response.setHeader('content-type', 'text/html').end(page)
  let body = ''
  request.on('data', (chunk) => (body += chunk))
  request.on('end', () => {
    response.end()
    finish(body)
  })
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))

const { publicKey } = new X509Certificate(readFileSync(`${DIRECTORY}/server.crt`))
const pin = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
const browser = spawn(
  'chromium',
  [
    '--headless',
    // As root, which is usual in a container, the browser has no sandbox of its own.
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    `--user-data-dir=${profile}`,
    `--ignore-certificate-errors-spki-list=${pin}`,
    '--remote-debugging-port=0',
    `http://localhost:${server.address().port}/`,
  ],
  { stdio: 'ignore' },
)
const ended = new Promise((resolve) => browser.once('exit', resolve))
setTimeout(() => finish('FAILED browser - -: it did not come to an end'), PATIENCE).unref()

async function finish(lines) {
  console.log(lines)
  browser.kill('SIGKILL')
  await ended
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
  process.exit(0)
}
