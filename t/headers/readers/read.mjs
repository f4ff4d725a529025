// Parses the headers in a file of `t/headers/dialects.py capture` in Node: structured-headers for RFC 9440, X509Certificate
// for every certificate. Usage: node read.mjs FILE DIRECTORY-WITH-node_modules
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [file, modules] = process.argv.slice(2);
const { parseItem, parseList } = createRequire(`${modules}/`)('structured-headers');

const bytes = ([item, parameters]) => {
    if (parameters.size !== 0) throw new Error('parameters');
    return Buffer.from(item.toBase64 ? Buffer.from(item.toBase64(), 'base64') : item);
};
const item = (value) => [bytes(parseItem(value))];
const list = (value) => parseList(value).map(bytes);
const base64 = (value) => [Buffer.from(value, 'base64')];
const pem = (text) => text.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g);
const escaped = (value) => pem(decodeURIComponent(value));
// As Keycloak parses it
const alb = (value) => pem(decodeURIComponent(value.replace(/\+/g, '%2B')));
// As Tomcat's SSLValve
const spaced = (value) => pem(value.replace(/(?<!BEGIN|END) (?!CERTIFICATE)/g, '\n'));
const xfcc = (key) => (value) => {
    const pairs = new Map([...value.matchAll(/([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;\\]*))(?:;|$)/g)]
        .map(([, name, quoted, bare]) => [name, quoted === undefined ? bare : quoted.replace(/\\(.)/g, '$1')]));
    return escaped(pairs.get(key));
};

const leaf = (sent) => sent.slice(0, 1);
const beside = (sent) => sent.slice(1);
const all = (sent) => sent;

const READERS = [
    ['one.test', 'Client-Cert', item, leaf],
    ['one.test', 'Client-Cert-Chain', list, beside],
    ['one.test', 'Cf-Client-Cert-Der-Base64', base64, leaf],
    ['one.test', 'x-forwarded-client-cert', xfcc('Cert'), leaf],
    ['one.test', 'x-forwarded-client-cert', xfcc('Chain'), all],
    ['one.test', 'ssl-client-cert', escaped, leaf],
    ['one.test', 'X-SSL-Client-Cert', base64, leaf],
    ['one.test', 'X-Forwarded-Tls-Client-Cert', (value) => value.split(',').flatMap(base64), all],
    ['one.test', 'X-Amzn-Mtls-Clientcert-Leaf', alb, leaf],
    ['one.test', 'CloudFront-Viewer-Cert-Pem', escaped, leaf],
    ['one.test', 'X-Client-Cert-Leaf', item, leaf],
    ['one.test', 'X-Client-Cert-Chain', list, beside],
    ['one.test', 'X-ARR-ClientCert', base64, leaf],
    ['one.test', 'X-Tls-Client-Certificate-Der-Base64', base64, leaf],
    ['two.test', 'X-Amzn-Mtls-Clientcert', alb, all],
    ['two.test', 'Client-Cert', item, leaf],
    ['two.test', 'Client-Cert-Chain', list, beside],
    ['two.test', 'SSL_CLIENT_CERT', spaced, leaf],
];

const FINGERPRINTS = ['Cf-Cert-Fingerprint-SHA256', 'Cf-Client-Cert-Sha256', 'CloudFront-Viewer-Cert-Sha256',
    'X-Tls-Client-Fingerprint'];

const captured = JSON.parse(readFileSync(file));
for (const [host, header, read, which] of READERS) {
    let count = 0;
    for (const { name, sent, headers } of captured.filter((one) => one.host === host)) {
        const want = which(sent);
        const values = headers[header.toLowerCase()] ?? [];
        const got = values.flatMap(read).map((text) => new X509Certificate(text).raw.toString('base64'));
        if (values.length > 1 || got.join() !== want.join()) console.log(`${name} ${header}: ${values}`);
        count += got.length;
    }
    console.log(`${host} ${header}: ${count}`);
}
for (const { name, sent, headers } of captured.filter((one) => one.host === 'one.test')) {
    const { fingerprint, fingerprint256, serialNumber } = new X509Certificate(Buffer.from(sent[0], 'base64'));
    const digest = fingerprint256.replaceAll(':', '').toLowerCase();
    const wrong = FINGERPRINTS.filter((header) => headers[header.toLowerCase()][0] !== digest);
    if (wrong.length) console.log(`${name} ${wrong}`);
    if (headers['cf-cert-fingerprint-sha1'][0] !== fingerprint.replaceAll(':', '').toLowerCase()) console.log(`${name} SHA-1`);
    if (BigInt(`0x${headers['cf-cert-serial'][0]}`) !== BigInt(`0x${serialNumber}`)) console.log(`${name} serial`);
}
