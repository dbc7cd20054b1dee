// The page of `manyeyes serve` in Debian's chromium; needs: npm install playwright-core
// node page.mjs URL IMAGE SCREENSHOT QUESTION...
import { chromium } from 'playwright-core';
const [url, image, shot] = process.argv.slice(2);
const browser = await chromium.launch({executablePath: '/usr/bin/chromium', args: ['--no-sandbox']});
const page = await browser.newPage({viewport: {width: 1180, height: 720}});
const faults = [];
page.on('pageerror', e => faults.push(String(e)));
page.on('console', m => { if (m.type() === 'error') faults.push(m.text()); });
page.setDefaultTimeout(60000);
await page.goto(url);
await page.setInputFiles('#file', image);
await page.waitForFunction(() => !document.getElementById('picture').hidden);
for (const q of process.argv.slice(5)) {
  await page.fill('#question', q);
  await page.click('#ask');
  const n = await page.locator('.turn.user').count();
  await page.waitForFunction(k => document.querySelectorAll('.turn.assistant').length >= k && !document.getElementById('ask').disabled, n);
}
console.log(await page.locator('#talk').innerText());
console.log('boxes', await page.getAttribute('#picture', 'data-boxes'), 'name', await page.innerText('#name'));
await page.screenshot({path: shot});
await page.click('#explain');
await page.waitForFunction(() => !document.getElementById('why').hidden, null, {timeout: 120000});
const frame = page.frameLocator('#why');
console.log('explain:', (await frame.locator('body').innerText()).slice(0, 300).replaceAll('\n', ' | '));
await page.evaluate(() => { const b = new Uint8Array(100); document.getElementById('new').click(); });
await page.setInputFiles('#file', {name: 'x.png', mimeType: 'image/png', buffer: Buffer.from('no picture')});
await page.waitForSelector('.turn.error');
console.log('error:', await page.locator('.turn.error').innerText());
console.log('faults', JSON.stringify(faults));
await browser.close();
