package dicom

// NewDerived begins a data set of what is made of images: it has their patient, study and frame of reference. Elements that must be there
// but may be empty are, and identifiers that the images lack are made of what they have, so that nothing keeps a result from being
// stored.
func NewDerived(source *File) *Dataset {
	d := &Dataset{}
	for _, t := range []Tag{PatientName, PatientID, PatientBirthDate, PatientSex, StudyDate, StudyTime, StudyID, AccessionNumber,
		ReferringPhysicianName, PositionReferenceIndicator} {
		d.Set(t)
		d.Copy(source.Dataset, t)
	}
	d.Copy(source.Dataset, StudyDescription, PatientAge, PatientSize, PatientWeight)
	d.Set(StudyInstanceUID, source.UID(StudyInstanceUID))
	d.Set(FrameOfReferenceUID, source.UID(FrameOfReferenceUID))
	return d
}

// UID is an identifier of a file, or for one that lacks it another, the same for all files that agree in study, series, frame of
// reference and patient.
func (f *File) UID(t Tag) string {
	if uid := f.Text(t); uid != "" {
		return uid
	}
	name := t.String()
	for _, t := range []Tag{StudyInstanceUID, SeriesInstanceUID, FrameOfReferenceUID, PatientID, StudyDate} {
		name += "|" + f.Text(t)
	}
	return DerivedUID(name)
}

// Reference points at a file's instance, as items of reference sequences do. It is nil if the file does not say which instance it is.
func (f *File) Reference() *Dataset {
	if f.Text(SOPClassUID) == "" || f.Text(SOPInstanceUID) == "" {
		return nil
	}
	d := &Dataset{}
	d.Set(ReferencedSOPClassUID, f.Text(SOPClassUID))
	d.Set(ReferencedSOPInstanceUID, f.Text(SOPInstanceUID))
	return d
}

// References points at all instances of a grid's slices, each once.
func (g *Grid) References() []*Dataset {
	var references []*Dataset
	seen := map[*File]bool{}
	for _, s := range g.Slices {
		if r := s.File.Reference(); r != nil && !seen[s.File] {
			references = append(references, r)
		}
		seen[s.File] = true
	}
	return references
}

// Reference points at the instance of a slice, and at its frame where the file has several.
func (s Slice) Reference() *Dataset {
	d := s.File.Reference()
	if d != nil && s.File.Has(NumberOfFrames) {
		d.SetInts(ReferencedFrameNumber, s.Frame+1)
	}
	return d
}
