package dicom

import "fmt"

// Tag names an element: group and element number, as in 0x00280010 for Rows (PS3.6, section 6).
type Tag uint32

// String is the tag as the standard writes it, such as (0028,0010).
func (t Tag) String() string { return fmt.Sprintf("(%04x,%04x)", uint32(t)>>16, uint32(t)&0xffff) }

func (t Tag) group() uint16   { return uint16(t >> 16) }
func (t Tag) element() uint16 { return uint16(t) }

// Tags of the attributes that images, segmentations and structure sets are read from and written with, by their keywords in PS3.6.
const (
	MediaStorageSOPClassUID    Tag = 0x00020002
	MediaStorageSOPInstanceUID Tag = 0x00020003
	TransferSyntaxUID          Tag = 0x00020010
	ImplementationClassUID     Tag = 0x00020012
	ImplementationVersionName  Tag = 0x00020013

	SpecificCharacterSet        Tag = 0x00080005
	ImageType                   Tag = 0x00080008
	InstanceCreationDate        Tag = 0x00080012
	InstanceCreationTime        Tag = 0x00080013
	SOPClassUID                 Tag = 0x00080016
	SOPInstanceUID              Tag = 0x00080018
	StudyDate                   Tag = 0x00080020
	SeriesDate                  Tag = 0x00080021
	ContentDate                 Tag = 0x00080023
	StudyTime                   Tag = 0x00080030
	SeriesTime                  Tag = 0x00080031
	ContentTime                 Tag = 0x00080033
	AccessionNumber             Tag = 0x00080050
	Modality                    Tag = 0x00080060
	Manufacturer                Tag = 0x00080070
	ReferringPhysicianName      Tag = 0x00080090
	CodeValue                   Tag = 0x00080100
	CodingSchemeDesignator      Tag = 0x00080102
	CodingSchemeVersion         Tag = 0x00080103
	CodeMeaning                 Tag = 0x00080104
	StudyDescription            Tag = 0x00081030
	SeriesDescription           Tag = 0x0008103e
	ManufacturerModelName       Tag = 0x00081090
	ReferencedStudySequence     Tag = 0x00081110
	ReferencedSeriesSequence    Tag = 0x00081115
	ReferencedInstanceSequence  Tag = 0x0008114a
	ReferencedSOPClassUID       Tag = 0x00081150
	ReferencedSOPInstanceUID    Tag = 0x00081155
	ReferencedFrameNumber       Tag = 0x00081160
	SourceImageSequence         Tag = 0x00082112
	DerivationImageSequence     Tag = 0x00089124
	DerivationCodeSequence      Tag = 0x00089215
	PurposeOfReferenceCodeSeq   Tag = 0x0040a170
	PatientName                 Tag = 0x00100010
	PatientID                   Tag = 0x00100020
	PatientBirthDate            Tag = 0x00100030
	PatientSex                  Tag = 0x00100040
	PatientAge                  Tag = 0x00101010
	PatientSize                 Tag = 0x00101020
	PatientWeight               Tag = 0x00101030
	SliceThickness              Tag = 0x00180050
	SpacingBetweenSlices        Tag = 0x00180088
	EchoTime                    Tag = 0x00180081
	TriggerTime                 Tag = 0x00181060
	SoftwareVersions            Tag = 0x00181020
	DeviceSerialNumber          Tag = 0x00181000
	ContributionDescription     Tag = 0x0018a003
	ImagerPixelSpacing          Tag = 0x00181164
	StudyInstanceUID            Tag = 0x0020000d
	SeriesInstanceUID           Tag = 0x0020000e
	StudyID                     Tag = 0x00200010
	SeriesNumber                Tag = 0x00200011
	AcquisitionNumber           Tag = 0x00200012
	InstanceNumber              Tag = 0x00200013
	ImagePositionPatient        Tag = 0x00200032
	ImageOrientationPatient     Tag = 0x00200037
	FrameOfReferenceUID         Tag = 0x00200052
	TemporalPositionIdentifier  Tag = 0x00200100
	PositionReferenceIndicator  Tag = 0x00201040
	StackID                     Tag = 0x00209056
	FrameContentSequence        Tag = 0x00209111
	PlanePositionSequence       Tag = 0x00209113
	PlaneOrientationSequence    Tag = 0x00209116
	TemporalPositionIndex       Tag = 0x00209128
	DimensionOrganizationUID    Tag = 0x00209164
	DimensionIndexPointer       Tag = 0x00209165
	FunctionalGroupPointer      Tag = 0x00209167
	DimensionOrganizationSeq    Tag = 0x00209221
	DimensionIndexSequence      Tag = 0x00209222
	DimensionIndexValues        Tag = 0x00209157
	DimensionOrganizationType   Tag = 0x00209311
	DimensionDescriptionLabel   Tag = 0x00209421
	SamplesPerPixel             Tag = 0x00280002
	PhotometricInterpretation   Tag = 0x00280004
	PlanarConfiguration         Tag = 0x00280006
	NumberOfFrames              Tag = 0x00280008
	Rows                        Tag = 0x00280010
	Columns                     Tag = 0x00280011
	PixelSpacing                Tag = 0x00280030
	BitsAllocated               Tag = 0x00280100
	BitsStored                  Tag = 0x00280101
	HighBit                     Tag = 0x00280102
	PixelRepresentation         Tag = 0x00280103
	RescaleIntercept            Tag = 0x00281052
	RescaleSlope                Tag = 0x00281053
	RedPaletteDescriptor        Tag = 0x00281101
	RedPaletteData              Tag = 0x00281201
	LossyImageCompression       Tag = 0x00282110
	LossyImageCompressionRatio  Tag = 0x00282112
	LossyImageCompressionMethod Tag = 0x00282114
	PixelMeasuresSequence       Tag = 0x00289110
	FrameVOILUTSequence         Tag = 0x00289132
	PixelValueTransformationSeq Tag = 0x00289145
	GridFrameOffsetVector       Tag = 0x3004000c
	DoseGridScaling             Tag = 0x3004000e
	SharedFunctionalGroupsSeq   Tag = 0x52009229
	PerFrameFunctionalGroupsSeq Tag = 0x52009230
	FloatPixelData              Tag = 0x7fe00008
	DoubleFloatPixelData        Tag = 0x7fe00009
	PixelData                   Tag = 0x7fe00010
	fileMetaInformationVersion  Tag = 0x00020001
	extendedOffsetTable         Tag = 0x7fe00001
	extendedOffsetTableLengths  Tag = 0x7fe00002
	item                        Tag = 0xfffee000
	itemDelimitation            Tag = 0xfffee00d
	sequenceDelimitation        Tag = 0xfffee0dd
	dataSetTrailingPadding      Tag = 0xfffcfffc
)

// Transfer syntaxes in which data sets are stored without compressed pixels (PS3.5, annex A).
const (
	ImplicitVRLittleEndian = "1.2.840.10008.1.2"
	ExplicitVRLittleEndian = "1.2.840.10008.1.2.1"
	ExplicitVRBigEndian    = "1.2.840.10008.1.2.2"
	DeflatedLittleEndian   = "1.2.840.10008.1.2.1.99"
)
