// Chromium, driven by playwright-core out of build/npm-dev.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { BUILD } from './tree.js';

const require = createRequire(join(BUILD, 'npm-dev', 'package.json'));
const { chromium } = require('playwright-core');
export const axeSource = require('axe-core').source;

export const launch = (more = []) => chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', ...more],
});
