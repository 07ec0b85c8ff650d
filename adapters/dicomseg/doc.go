// Package dicomseg writes and reads DICOM segmentations (PS3.3, A.51): label maps that an archive keeps beside the images they
// belong to, with every segment named by a code.
//
// Encode writes what the image's own grid says: each frame is one slice of one segment (BINARY) or of all (LABELMAP), placed where the
// source's slice lies and pointing at the source's instance. Slices without a voxel are left out. What the source does not have
// (identifiers, patient, equipment) is filled in or left empty as the standard allows, for a missing tag is no reason to lose a mask.
//
// Read takes segmentations of other writers: BINARY, FRACTIONAL and LABELMAP, of overlapping segments, with frames in any order and
// any plane. On puts them on the grid of an image.
package dicomseg
