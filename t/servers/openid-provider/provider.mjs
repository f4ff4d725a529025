// An authorization server (npm oidc-provider) on 127.0.0.1. It runs until standard input ends.
//
// node provider.mjs PORT TLS_PORT PKI DIR, with node_modules/oidc-provider in the working directory.
//
// http://127.0.0.1:PORT serves discovery, keys and introspection (client gw, secret "s&cret"). Documents about it are
// also at /.well-known/oauth-authorization-server/realms/a (RFC 8414), with {tenantid} in the issuer below /tenants (with
// the query p), and below /internal. For the tests:
//   /control/forge?kind=KIND&x5t=...   a token that the server itself would not issue
//   /control/prove?htu=URI&token=...   a DPoP proof; also key, alg, jti, htm, later (seconds), typ, nonce, private
//   /control/rotate                    replaces the keys; with ?keep=1 the old ones stay published
//   /control/reset                     restores the first keys and ends the fault
//   /control/fault?what=WHAT           answers wrongly from now on: issuer, http, linklocal, endless, keys, garbage, down
//   /control/counts                    the requests for discovery, keys and introspection since the last call
// https://127.0.0.1:TLS_PORT serves the token endpoint, which requests client certificates (client app, secret "app").
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import * as zlib from 'node:zlib';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.cwd() + '/');
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: Provider } = await load('oidc-provider');
const jose = await load('jose');

const [port, tlsPort] = process.argv.slice(2, 4).map(Number);
const [pki, dir] = process.argv.slice(4);
const issuer = `http://127.0.0.1:${port}/realms/a`;
const api = 'https://api.test';

async function pair(alg, kid) {
  const keys = await jose.generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
  return { ...(await jose.exportJWK(keys.privateKey)), alg, kid, use: 'sig' };
}

const first = [await pair('RS256', 'rsa-1'), await pair('PS256', 'ps-1'), await pair('ES256', 'ec-1'), await pair('EdDSA', 'ed-1')];
let current = first;
let published = first;
let fault = '';
let callback;
let provider;
let counts = {};

const gateway = await pair('ES256', 'gateway');
delete gateway.use;
fs.writeFileSync(`${dir}/gateway.jwk`, JSON.stringify(gateway));
const { d, ...gatewayPublic } = gateway;

const resources = {};
for (const key of first) resources[`${api}/${key.alg}`] = { audience: api, accessTokenFormat: 'jwt', jwt: { sign: { alg: key.alg } } };
resources[`${api}/opaque`] = { audience: api, accessTokenFormat: 'opaque' };

function start(keys) {
  current = keys;
  provider = new Provider(issuer, {
    jwks: { keys: published },
    clients: [
      { client_id: 'app', client_secret: 'app', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
        token_endpoint_auth_method: 'client_secret_post', tls_client_certificate_bound_access_tokens: true, scope: 'read write' },
      { client_id: 'loose', client_secret: 'app', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
        token_endpoint_auth_method: 'client_secret_post', scope: 'read write' },
      { client_id: 'dpop', client_secret: 'app', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
        token_endpoint_auth_method: 'client_secret_post', dpop_bound_access_tokens: true, scope: 'read write' },
      { client_id: 'gw', client_secret: 's&cret', grant_types: [], redirect_uris: [], response_types: [],
        token_endpoint_auth_method: 'client_secret_basic' },
      { client_id: 'gwk', grant_types: [], redirect_uris: [], response_types: [], jwks: { keys: [gatewayPublic] },
        token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256' },
      { client_id: 'gwp', client_secret: 'p+st', grant_types: [], redirect_uris: [], response_types: [],
        token_endpoint_auth_method: 'client_secret_post' },
    ],
    scopes: ['read', 'write'],
    enabledJWA: { requestObjectSigningAlgValues: ['RS256'], dPoPSigningAlgValues: ['ES256', 'RS256', 'PS256', 'EdDSA'] },
    ttl: { ClientCredentials: 600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      dPoP: { enabled: true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        getCertificate(ctx) {
          const peer = ctx.socket.getPeerX509Certificate?.();
          return peer?.toString();
        },
      },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(ctx, indicator) {
          const known = resources[indicator];
          if (!known) throw new Error(`no resource ${indicator}`);
          return { scope: 'read write', accessTokenTTL: 600, ...known };
        },
        useGrantedResource: () => true,
      },
    },
  });
  callback = provider.callback();
}

async function forge(query) {
  const kind = query.get('kind');
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, aud: api, sub: 'app', client_id: 'app', scope: 'read write', iat: now, exp: now + 600 };
  if (query.get('x5t')) claims.cnf = { 'x5t#S256': query.get('x5t') };
  const key = current.find(({ kid }) => kid.startsWith(query.get('key') ?? 'ec'));
  const header = { alg: key.alg, kid: key.kid, typ: 'at+jwt' };
  const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
  const change = {
    expired: () => { claims.exp = now - 5; },
    future: () => { claims.nbf = now + 500; },
    forever: () => { delete claims.exp; },
    issuer: () => { claims.iss = 'https://other.test'; },
    slash: () => { claims.iss += '/'; },
    tenant: () => { claims.iss = `${issuer}/${query.get('tenant')}/v2.0`; },
    audience: () => { claims.aud = 'https://other.test'; },
    audiences: () => { claims.aud = ['https://other.test', api]; },
    scope: () => { claims.scope = 'read'; },
    ping: () => { header.zip = 'NONE'; },
    nulls: () => {
      Object.assign(header, { zip: null, enc: null, b64: true, crit: null, typ: null });
      Object.assign(claims, { nbf: null, token_type: null });
    },
    deflated: () => { header.zip = 'DEF'; },
    rfc9864: () => { header.alg = 'Ed25519'; },
    crit: () => { header.crit = ['exp']; header.exp = now; },
    typ: () => { header.typ = 'dpop+jwt'; },
    kid: () => { header.kid = query.get('kid') ?? 'unknown'; },
    jwk: () => { header.jwk = { kty: 'EC' }; },
    short: () => { claims.exp = now + Number(query.get('seconds') ?? 2); },
    'issued-later': () => { claims.iat = now + 999; claims.exp = now + 1999; },
    'issued-soon': () => { claims.iat = now + 30; },
    malformed: () => { claims.cnf = { 'x5t#S256': 'AAAA' }; },
    'to-nothing': () => { claims.cnf = {}; },
    'to-null': () => { claims.cnf = null; },
    dpop: () => { claims.cnf = { ...claims.cnf, jkt: '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I' }; },
    'by-key': () => { claims.cnf = { jwk: { kty: 'EC' } }; },
    logout: () => { claims.events = { 'http://schemas.openid.net/event/backchannel-logout': {} }; },
    id: () => { claims.typ = 'ID'; },
    claims: () => { Object.assign(claims, JSON.parse(query.get('claims'))); },
    headers: () => { claims.sub = 'ann'; claims.roles = ['a', 'b']; claims.odd = 'a\r\nX-Evil: b'; },
  }[kind];
  change?.();
  if (kind === 'none') return `${encode({ alg: 'none', typ: 'at+jwt' })}.${encode(claims)}.`;
  if (kind === 'hmac') {
    const rsa = current.find(({ kty }) => kty === 'RSA');
    const pem = crypto.createPublicKey({ key: rsa, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    const signed = `${encode({ alg: 'HS256', kid: rsa.kid, typ: 'at+jwt' })}.${encode(claims)}`;
    return `${signed}.${crypto.createHmac('sha256', pem).update(signed).digest('base64url')}`;
  }
  if (kind === 'confused') header.alg = 'RS256';
  if (kind === 'encrypted') {
    return new jose.CompactEncrypt(Buffer.from('x')).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' }).encrypt(crypto.randomBytes(32));
  }
  const signed = `${encode((kind === 'space' ? '\r\n ' : '') + JSON.stringify(header))}.${encode(claims)}`;
  const secret = crypto.createPrivateKey({ key, format: 'jwk' });
  const hash = { ES256: 'sha256', RS256: 'sha256', PS256: 'sha256' }[key.alg] ?? null;
  const options = { key: secret, dsaEncoding: 'ieee-p1363' };
  if (key.alg === 'PS256') Object.assign(options, { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
  return `${signed}.${crypto.sign(hash, Buffer.from(signed), options).toString('base64url')}`;
}

// A DPoP proof (RFC 9449) with the key NAME; an empty token means one for the token endpoint.
const dpopKeys = {};
async function prove(query) {
  const name = query.get('key') ?? 'a';
  const alg = query.get('alg') ?? 'ES256';
  dpopKeys[name] ??= await jose.generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
  const { publicKey, privateKey } = dpopKeys[name];
  const jwk = await jose.exportJWK(query.has('private') ? privateKey : publicKey);
  const claims = { jti: query.get('jti') ?? crypto.randomUUID(), htm: query.get('htm') ?? 'GET', htu: query.get('htu') };
  claims.iat = Math.floor(Date.now() / 1000) + Number(query.get('later') ?? 0);
  if (query.get('token')) claims.ath = crypto.createHash('sha256').update(query.get('token')).digest('base64url');
  if (query.get('nonce')) claims.nonce = query.get('nonce');
  return new jose.SignJWT(claims).setProtectedHeader({ typ: query.get('typ') ?? 'dpop+jwt', alg, jwk }).sign(privateKey);
}

async function control(name, query, response) {
  let body = 'ok';
  if (name === 'prove') body = await prove(query);
  if (name === 'forge') body = await forge(query);
  if (name === 'rotate') {
    const fresh = [await pair('ES256', `ec-${Date.now()}`), await pair('RS256', `rsa-${Date.now()}`)];
    published = query.get('keep') ? [...fresh, ...published] : fresh;
    start(fresh);
  }
  if (name === 'reset') {
    published = first;
    fault = '';
    counts = {};
    start(first);
  }
  if (name === 'fault') fault = query.get('what') ?? '';
  if (name === 'counts') {
    body = JSON.stringify(counts, ['discovery', 'jwks', 'introspection']);
    counts = {};
  }
  response.end(body);
}

// Answers with the current fault, and returns whether there is one for this path.
function answerWithFault(path, response) {
  const json = (value) => { response.setHeader('content-type', 'application/json'); response.end(JSON.stringify(value)); return true; };
  const base = { issuer, jwks_uri: `${issuer}/jwks` };
  if (fault === 'down') { response.destroy(); return true; }
  if (path.endsWith('/openid-configuration')) {
    if (fault === 'issuer') return json({ ...base, issuer: 'http://127.0.0.1/realms/b' });
    if (fault === 'scheme') return json({ ...base, jwks_uri: 'file:///etc/passwd' });
    if (fault === 'linklocal') return json({ ...base, jwks_uri: 'http://169.254.169.254/latest/meta-data' });
    if (fault === 'loopback') return json({ ...base, jwks_uri: `http://127.0.0.1:${tlsPort}/jwks` });
    if (fault === 'garbage') { response.end('<html>'); return true; }
  }
  if (path.endsWith('/jwks')) {
    if (fault === 'many') {
      // 996 other keys with certificates of 700 bytes precede the right ones
      const { d, ...other } = published.find(({ kty }) => kty === 'EC');
      const keys = Array.from({ length: 996 }, (_, i) => ({ ...other, kid: `other-${i}`, x5c: ['A'.repeat(700)] }));
      const set = JSON.stringify({ keys: [...keys, ...published.map(({ d, p, q, dp, dq, qi, ...key }) => key)] });
      response.setHeader('content-encoding', 'gzip');
      response.end(zlib.gzipSync(set));
      return true;
    }
    if (fault === 'keys') return json({ keys: Array(10000).fill({}) });
    if (fault === 'endless') {
      const more = () => { if (!response.destroyed) { response.write(' '.repeat(16384)); setTimeout(more, 5); } };
      more();
      return true;
    }
    if (fault === 'slow') { setTimeout(() => response.end('{}'), 60000).unref(); return true; }
    if (fault === 'error') { response.statusCode = 500; response.end(); return true; }
  }
  if (path.endsWith('/introspection')) {
    if (fault === 'introspection') return json({ active: 'yes' });
    if (fault === 'to-nothing') return json({ active: true, cnf: {}, aud: api });
    if (fault === 'dpop') return json({ active: true, cnf: { jkt: '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I' }, aud: api });
    if (fault === 'refresh') return json({ active: true, token_type: 'refresh_token', aud: api });
    if (fault === 'endless-answer') { response.end(`{"active":true,"x":"${'x'.repeat(1 << 20)}"}`); return true; }
  }
  return false;
}

async function serve(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://x');
  if (pathname.startsWith('/control/')) return control(pathname.slice(9), searchParams, response);
  const documents = {
    '/.well-known/oauth-authorization-server/realms/a': issuer,
    '/tenants/.well-known/openid-configuration': `${issuer}/{tenantid}/v2.0`,
    '/internal/.well-known/openid-configuration/': issuer,
  };
  if (documents[pathname]) {
    const found = { issuer: documents[pathname], jwks_uri: `${issuer}/jwks` };
    return response.end(JSON.stringify(request.url.startsWith('/tenants') && !searchParams.has('p') ? {} : found));
  }
  // The keys of another issuer
  if (pathname === '/other/keys') return response.end(JSON.stringify({ keys: [gatewayPublic] }));
  const what = { 'openid-configuration': 'discovery', jwks: 'jwks', introspection: 'introspection' }[pathname.split('/').pop()];
  if (what) counts[what] = (counts[what] ?? 0) + 1;
  if (answerWithFault(pathname, response)) return undefined;
  // oidc-provider is mounted below a path.
  request.originalUrl = request.url;
  if (fault === 'many' && what === 'introspection') {
    const writeHead = response.writeHead.bind(response);
    response.writeHead = (status, ...rest) => writeHead(201, ...rest);
  }
  request.url = request.url.replace('/realms/a', '') || '/';
  return callback(request, response);
}

start(first);
const server = http.createServer(serve);
const secure = https.createServer({
  key: fs.readFileSync(`${pki}/server.key`), cert: fs.readFileSync(`${pki}/server.crt`),
  requestCert: true, rejectUnauthorized: false,
}, serve);
server.keepAliveTimeout = 1;
await new Promise((up) => server.listen(port, '127.0.0.1', up));
await new Promise((up) => secure.listen(tlsPort, '127.0.0.1', up));
fs.writeFileSync(`${dir}/ready`, '');
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
