// Reads an answer as OHIF's plugin does, with the library it uses, and prints what it finds as one JSON line: how many voxels of each
// slice are marked, the value of voxel I, J, K, and the SHA-256 of all.
//
// usage: node ohif_nrrd.js NODE_MODULES FILE I J K
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const nrrd = require(path.join(process.argv[2], 'nrrd-js'));

const file = fs.readFileSync(process.argv[3]);
const image = nrrd.parse(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
if (image.encoding !== 'raw') throw new Error('the plugin reads raw voxels only, these are ' + image.encoding);
const voxels = new Uint8Array(image.buffer); // the plugin takes the buffer for bytes, whatever the header says
const [columns, rows, slices] = image.sizes;
if (voxels.length !== columns * rows * slices) throw new Error(voxels.length + ' bytes for sizes ' + image.sizes);
const [i, j, k] = process.argv.slice(4).map(Number);
const marked = new Array(slices).fill(0);
for (let n = 0; n < voxels.length; n++) {
  if (voxels[n]) marked[Math.floor(n / columns / rows)]++;
}
console.log(JSON.stringify({
  type: image.type, sizes: image.sizes, origin: image.spaceOrigin, marked, value: voxels[i + columns * (j + rows * k)],
  hash: crypto.createHash('sha256').update(voxels).digest('hex'),
}));
