package dicomseg

import (
	"math"
	"strings"

	"scrawl/adapters/dicom"
)

// Code is a coded concept (PS3.3, 8.8).
type Code struct{ Value, Scheme, Meaning string }

// Segment is what a segmentation says of one segment.
type Segment struct {
	// Label is the segment's number in the label map, which BINARY segmentations number anew: 1, 2, … in order.
	Label uint16
	// Name is what users read, of up to 64 characters (longer ones are cut); Description may be longer.
	Name, Description string
	// Category and Type say what it is, Modifier which one (left, right). Without a type it is found by the name among common
	// structures, or is tissue.
	Category, Type, Modifier Code
	// AlgorithmType is AUTOMATIC, SEMIAUTOMATIC (the default) or MANUAL. AlgorithmName names what made it.
	AlgorithmType, AlgorithmName string
	// Color is red, green and blue from 0 to 1; nil for none.
	Color *[3]float64
}

// structures are codes of SNOMED CT by the names that users and networks give to structures, in lower case without a side.
var structures = map[string]Code{
	"spleen": {"78961009", "SCT", "Spleen"}, "liver": {"10200004", "SCT", "Liver"}, "kidney": {"64033007", "SCT", "Kidney"},
	"gallbladder": {"28231008", "SCT", "Gallbladder"}, "pancreas": {"15776009", "SCT", "Pancreas"}, "stomach": {"69695003", "SCT", "Stomach"},
	"esophagus": {"32849002", "SCT", "Esophagus"}, "oesophagus": {"32849002", "SCT", "Esophagus"}, "duodenum": {"38848004", "SCT", "Duodenum"},
	"colon": {"71854001", "SCT", "Colon"}, "small bowel": {"30315005", "SCT", "Small intestine"}, "small intestine": {"30315005", "SCT", "Small intestine"},
	"rectum": {"34402009", "SCT", "Rectum"}, "prostate": {"41216001", "SCT", "Prostate"}, "uterus": {"35039007", "SCT", "Uterus"},
	"adrenal gland": {"23451007", "SCT", "Adrenal gland"}, "heart": {"80891009", "SCT", "Heart"}, "aorta": {"15825003", "SCT", "Aorta"},
	"inferior vena cava": {"64131007", "SCT", "Inferior vena cava"}, "superior vena cava": {"48345005", "SCT", "Superior vena cava"},
	"portal vein": {"32764006", "SCT", "Portal vein"}, "pulmonary artery": {"81040000", "SCT", "Pulmonary artery"}, "lung": {"39607008", "SCT", "Lung"},
	"trachea": {"44567001", "SCT", "Trachea"}, "brain": {"12738006", "SCT", "Brain"}, "spinal cord": {"2748008", "SCT", "Spinal cord"},
	"cerebellum": {"113305005", "SCT", "Cerebellum"}, "hippocampus": {"5366008", "SCT", "Hippocampus"}, "thalamus": {"42695009", "SCT", "Thalamus"},
	"vertebra": {"51282000", "SCT", "Vertebra"}, "femur": {"71341001", "SCT", "Femur"}, "rib": {"113197003", "SCT", "Rib"}, "bone": {"272673000", "SCT", "Bone"},
	"muscle": {"71616004", "SCT", "Muscle"}, "skin": {"39937001", "SCT", "Skin"}, "lymph node": {"59441001", "SCT", "Lymph Node"},
	"artery": {"51114001", "SCT", "Artery"}, "vein": {"29092000", "SCT", "Vein"}, "nerve": {"91728009", "SCT", "Nerve"}, "breast": {"76752008", "SCT", "Breast"},
	"eye": {"81745001", "SCT", "Eye"}, "optic nerve": {"18234004", "SCT", "optic nerve"}, "parotid gland": {"45289007", "SCT", "Parotid gland"},
	"mandible": {"91609006", "SCT", "Mandible"}, "skull": {"89546000", "SCT", "Skull"}, "sternum": {"56873002", "SCT", "Sternum"},
	"clavicle": {"51299004", "SCT", "Clavicle"}, "scapula": {"79601000", "SCT", "Scapula"}, "humerus": {"85050009", "SCT", "Humerus"},
	"sacrum": {"54735007", "SCT", "Sacrum"},
}

// abnormal are the codes of what is no part of a healthy body.
var abnormal = map[string]Code{
	"tumor": {"108369006", "SCT", "Tumor"}, "tumour": {"108369006", "SCT", "Tumor"}, "neoplasm": {"108369006", "SCT", "Neoplasm"},
	"lesion": {"52988006", "SCT", "Lesion"}, "mass": {"4147007", "SCT", "Mass"}, "cyst": {"367643001", "SCT", "Cyst"}, "edema": {"79654002", "SCT", "Edema"},
	"necrosis": {"6574001", "SCT", "Necrosis"}, "hemorrhage": {"50960005", "SCT", "Hemorrhage"},
}

var (
	anatomy     = Code{"91723000", "SCT", "Anatomical Structure"}
	morphology  = Code{"49755003", "SCT", "Morphologically Abnormal Structure"}
	tissue      = Code{"85756007", "SCT", "Tissue"}
	background  = Code{"125040", "DCM", "Background"}
	sides       = map[string]Code{"left": {"7771000", "SCT", "Left"}, "right": {"24028007", "SCT", "Right"}}
	sourceImage = Code{"121322", "DCM", "Source image for image processing operation"}
	derivation  = Code{"113076", "DCM", "Segmentation"}
)

// coded fills in the codes that a segment does not have from its name.
func (s Segment) coded() Segment {
	if s.Type != (Code{}) {
		if s.Category == (Code{}) {
			s.Category = anatomy
		}
		return s
	}
	words := strings.Fields(strings.NewReplacer("_", " ", "-", " ").Replace(strings.ToLower(s.Name)))
	var rest []string
	for _, w := range words {
		if side, ok := sides[w]; ok {
			s.Modifier = side
			continue
		}
		rest = append(rest, w)
	}
	name := strings.Join(rest, " ")
	s.Category, s.Type = anatomy, tissue
	if c, ok := structures[name]; ok {
		s.Type = c
	} else if c, ok := abnormal[name]; ok {
		s.Category, s.Type = morphology, c
	}
	return s
}

// item is a code as a sequence has it. A value of more than 16 characters does not fit the element, and has no other here.
func (c Code) item() *dicom.Dataset {
	d := &dicom.Dataset{}
	d.Set(dicom.CodeValue, dicom.ShortText(c.Value, 16))
	d.Set(dicom.CodingSchemeDesignator, dicom.ShortText(c.Scheme, 16))
	d.Set(dicom.CodeMeaning, dicom.ShortText(c.Meaning, 64))
	return d
}

func readCode(d *dicom.Dataset) Code {
	return Code{d.Text(dicom.CodeValue), d.Text(dicom.CodingSchemeDesignator), d.Text(dicom.CodeMeaning)}
}

// white is the reference white of sRGB (D65), with which dcmtk and highdicom turn colours to CIE L*a*b* too.
var white = [3]float64{0.95047, 1, 1.08883}

// labOf is a colour as RecommendedDisplayCIELabValue has it: L* of 0 to 100 and a*, b* of -128 to 127 in 16 bits each (PS3.3,
// C.10.7.1.1).
func labOf(rgb [3]float64) []int {
	var linear [3]float64
	for c, v := range rgb {
		v = min(max(v, 0), 1)
		if linear[c] = v / 12.92; v > 0.04045 {
			linear[c] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	var f [3]float64
	for r, row := range [3][3]float64{{0.4124, 0.3576, 0.1805}, {0.2126, 0.7152, 0.0722}, {0.0193, 0.1192, 0.9505}} {
		v := (row[0]*linear[0] + row[1]*linear[1] + row[2]*linear[2]) / white[r]
		if f[r] = 7.787*v + 16.0/116; v > 0.008856 {
			f[r] = math.Cbrt(v)
		}
	}
	scale := func(v, lo, hi float64) int {
		return int(math.Round((min(max(v, lo), hi) - lo) / (hi - lo) * math.MaxUint16))
	}
	return []int{scale(116*f[1]-16, 0, 100), scale(500*(f[0]-f[1]), -128, 127), scale(200*(f[1]-f[2]), -128, 127)}
}

// rgbOf is the inverse of labOf, within the colours that a screen has.
func rgbOf(lab []int) *[3]float64 {
	if len(lab) != 3 {
		return nil
	}
	fy := (float64(lab[0])/math.MaxUint16*100 + 16) / 116
	f := [3]float64{fy + (float64(lab[1])/math.MaxUint16*255-128)/500, fy, fy - (float64(lab[2])/math.MaxUint16*255-128)/200}
	var xyz, rgb [3]float64
	for c, v := range f {
		if xyz[c] = (v - 16.0/116) / 7.787; v*v*v > 0.008856 {
			xyz[c] = v * v * v
		}
		xyz[c] *= white[c]
	}
	for r, row := range [3][3]float64{{3.2406, -1.5372, -0.4986}, {-0.9689, 1.8758, 0.0415}, {0.0557, -0.2040, 1.0570}} {
		v := row[0]*xyz[0] + row[1]*xyz[1] + row[2]*xyz[2]
		if rgb[r] = 12.92 * v; v > 0.0031308 {
			rgb[r] = 1.055*math.Pow(v, 1/2.4) - 0.055
		}
		rgb[r] = min(max(rgb[r], 0), 1)
	}
	return &rgb
}
