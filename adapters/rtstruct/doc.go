// Package rtstruct writes label maps as radiotherapy structure sets (PS3.3, A.19) and reads structure sets onto the grid of an image.
//
// A structure is a list of closed polygons in patient millimetres, each in the plane of one slice. Encode traces the border of every
// segment halfway between its outermost voxels and their neighbours (marching squares), and joins holes to the contour around them by a
// channel of no width, as the standard asks for. On gives a voxel to a structure when its centre is inside an odd number of its contours,
// so holes are understood whether they are joined or contours of their own, and a label map that was written comes back as it was.
package rtstruct
