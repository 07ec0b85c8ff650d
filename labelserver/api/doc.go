// Package api holds the wire types of MONAI Label's REST protocol: JSON objects that keep their order, the multipart answer of
// an inference, uploaded forms, file downloads' names, tasks and errors. It knows bytes and nothing of images or models.
//
// Two JSON dialects are on the wire. Bodies are compact (`{"a":1}`) and leave text as UTF-8; the `params` part inside a
// multipart answer is written as Python's json.dumps does (`{"a": 1}`, ASCII only). Floats keep their point in both, since
// Slicer's option table keeps the type of the number it read.
package api
